//! Tests of `parti-nats` that need what its examples do without: they are in a crate of their own, since an example is built
//! with all that the tests beside it depend on.
