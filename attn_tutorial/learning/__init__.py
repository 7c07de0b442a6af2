"""People's learning: how memory fades, who will answer right, and when to review.

`forgetting` holds a measured forgetting curve and the formulas for it. `simulator` makes up
learners. `tracing` predicts their answers with attention, `baselines` without. `schedules` decides
what is reviewed on which day, and `plan` writes the dates down. `python -m attn_tutorial.learning`
measures what the chapter shows.
"""
