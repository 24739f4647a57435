"""What a report says, and how it says so as Markdown and as a page."""
