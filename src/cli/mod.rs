//! Raw flags and environment, as typed.
