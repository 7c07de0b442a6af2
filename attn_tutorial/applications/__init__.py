"""One trained model for each application that the documents name: the code behind those chapters.

Each application is a folder with its data, models and baselines. Its module `experiment` has a
function `measure()`, which trains all systems over several seeds and returns `results.Results`;
`python -m attn_tutorial.applications NAME` stores what it returns.
"""

# In the order of the book.
APPLICATIONS = (
    "translation",
    "text_classification",
    "summarization",
    "language_model",
    "speech_recognition",
    "speech_synthesis",
    "speech_enhancement",
    "image_classification",
    "detection",
    "segmentation",
    "video",
    "image_generation",
    "forecasting",
    "finance",
    "medicine",
    "driving",
    "graphs",
    "knowledge_graph",
    "pictures_and_words",
    "self_supervision",
)
