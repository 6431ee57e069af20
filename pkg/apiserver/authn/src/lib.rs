//! Who asks: client certificates and service-account tokens.
