"""The runners and the code that they share. Needs only torch and the standard library, never the dashboard."""

import warnings

warnings.filterwarnings("ignore", message="Failed to initialize NumPy")  # torch looks for it; no runner needs it
