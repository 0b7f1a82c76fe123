"""What drypoint does, one module for each job, and the request that says what is wanted."""
