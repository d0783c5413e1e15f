"""A worker without a web app, an event loop or a user. Start reading at worker.py."""
