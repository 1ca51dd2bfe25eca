"""What the runners share. Runs on torch and the standard library alone, and knows nothing of the dashboard."""
