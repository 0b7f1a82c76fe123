"""HTTP for registries, clouds and base images by URL: one transport with retries, proxies and TLS."""
