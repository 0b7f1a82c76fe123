"""HTTP as registries, clouds and base images by URL need it: one transport with retries, proxies and TLS."""
