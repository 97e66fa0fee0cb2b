//! Who gets what: the assignment calculator.
