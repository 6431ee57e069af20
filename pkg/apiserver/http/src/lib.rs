//! The wire: the request chain, routes, negotiation, and the only place an error becomes a status code.
