"""A small FastAPI app with a login. Start reading at app.py."""
