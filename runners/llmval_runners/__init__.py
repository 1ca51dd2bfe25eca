"""The runners and the code that they share. Needs only torch and the standard library, never the dashboard."""
