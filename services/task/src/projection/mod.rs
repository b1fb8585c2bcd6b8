//! Read models that are kept as rows.

pub mod organization;
