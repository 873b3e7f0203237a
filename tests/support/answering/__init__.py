"""A workload that takes live parameters, answers inquiries and measures itself: what the platform's tests run."""
