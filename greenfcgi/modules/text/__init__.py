"""Text for web pages and programs: JSON, HTML, templates."""
