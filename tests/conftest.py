"""What the whole test run says at its end."""


def pytest_terminal_summary(terminalreporter) -> None:
    """Nobody may overlook that the site was not tested.

    This stands here because with several processes the main one does not load tests/site.
    """
    skipped = [
        report
        for report in terminalreporter.stats.get("skipped", [])
        if report.nodeid.startswith("tests/site/")
    ]
    if not skipped:
        return
    _, _, reason = skipped[0].longrepr
    terminalreporter.section("THE SITE WAS NOT TESTED", sep="!", red=True, bold=True)
    terminalreporter.line(f"{len(skipped)} tests were skipped.")
    terminalreporter.line(reason.removeprefix("Skipped: "))
    terminalreporter.section("THE SITE WAS NOT TESTED", sep="!", red=True, bold=True)
