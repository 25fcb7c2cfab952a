"""What the app makes: a request as a value, its limits, and the queue that makes its pictures."""
