"""What is known of the estimates, judged anew."""
