"""All that speaks to the Hugging Face Hub, and the only importer of huggingface_hub."""
