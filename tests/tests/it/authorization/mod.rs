//! The matrix of authorization: every rpc of the descriptors and every endpoint of HTTP, called by those who must not.
//!
//! Nothing is listed by hand that can be read from the descriptors: the rpcs, who may call them, and the fields that name
//! an entity. An id field of unknown meaning fails the test ([`ids`]).

mod calls;
mod credentials;
mod endpoints;
mod ids;
mod rpcs;
mod world;
