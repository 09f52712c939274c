"""What is seen of a library: its file, the probe built for it, and the probe's runs under the tracer."""
