"""What is said between client and provider: values in, values out, no I/O and no clock."""
