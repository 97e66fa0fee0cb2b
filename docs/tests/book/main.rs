//! The book says what is there: every link leads somewhere, every example is looked at by somebody, and each guarantee
//! is linked to a test of that name.

mod blocks;
mod guarantees;
mod links;
mod page;
mod pictures;
mod published;
mod shell;
