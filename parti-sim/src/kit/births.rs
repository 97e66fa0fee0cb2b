//! How the processes of a cluster come into the world.

use std::fmt;
use std::rc::Rc;

use parti_core::{Config, Slot};

use crate::setting::birth::Birth;

/// The most workers that a cluster begins with.
pub const MAX_WORKERS: u32 = 10_000;

/// How the processes of a cluster come into the world.
#[derive(Clone)]
pub(super) struct Births {
    pub(super) ordinals: bool,
    pub(super) capacity: Rc<dyn Fn(u32) -> u32>,
}

impl Births {
    /// How a process of the worker with this number comes into the world, with this version of your software.
    pub(super) fn of(&self, number: u32, software: &str) -> Birth {
        Birth {
            number,
            preferred_slot: self.ordinals.then_some(Slot::new(number)),
            predecessor_is_dead: self.ordinals,
            software: software.into(),
            capacity: (self.capacity)(number),
            ..Birth::default()
        }
    }

    /// The config of the worker with this number.
    pub(super) fn config(&self, number: u32, config: &Config) -> Config {
        self.of(number, &config.software).config(config)
    }
}

impl fmt::Debug for Births {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Births").field("ordinals", &self.ordinals).finish_non_exhaustive()
    }
}
