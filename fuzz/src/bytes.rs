//! Bytes, read as choices. When they are used up, there are no more choices.

/// What is left of the bytes.
#[derive(Debug)]
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl Bytes<'_> {
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    /// A number below `bound`, which is at most 256.
    pub(crate) fn below(&mut self, bound: usize) -> Option<usize> {
        Some(usize::from(self.byte()?) % bound.max(1))
    }

    /// A number below `bound`, as a `u32`.
    pub(crate) fn number(&mut self, bound: u32) -> Option<u32> {
        Some(u32::from(self.byte()?) % bound.max(1))
    }

    /// A few bytes, as many as the first one says.
    pub(crate) fn text(&mut self) -> Option<Vec<u8>> {
        let length = usize::from(self.byte()?).min(self.0.len());
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(text.to_vec())
    }
}
