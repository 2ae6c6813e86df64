"""What is drawn and written to be looked at: figures, GIFs, pages."""
