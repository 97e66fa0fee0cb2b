//! The examples of the book are doc tests of this crate: each page that has some is the documentation of a module here,
//! and a test sees that none is forgotten. `mdbook` reads the pages from `src/`.

macro_rules! pages {
    ($($module:ident = $page:literal;)*) => {
        $(
            #[cfg(doctest)]
            #[doc = include_str!(concat!("src/", $page))]
            pub mod $module {}
        )*

        /// The pages whose examples are compiled.
        pub const PAGES: &[&str] = &[$($page),*];
    };
}

pages! {
    configuration = "configuration.md";
    exactly_once = "exactly-once.md";
    first_worker = "first-worker.md";
    from_go = "from-go.md";
    from_kafka = "from-kafka.md";
    from_kcl = "from-kcl.md";
    from_locks = "from-locks.md";
    from_pcgroups = "from-pcgroups.md";
    layout = "layout.md";
    service = "service.md";
    testing = "testing.md";
    // What registries show of each crate.
    readme_nats = "../../parti-nats/README.md";
    readme_sim = "../../parti-sim/README.md";
}
