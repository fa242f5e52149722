"""The HTTP service: one router per noun, answers as JSON, errors as problems that name the parameter (RFC 9457)."""
