"""What tests share: tiny models and data, goldens, and where the shared data lies."""
