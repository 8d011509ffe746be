//! What the appliance's side over DPDK's ports can be asked to do.

/// What is done with a frame of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mode {
    /// It is sent as it came.
    Plain,
    /// It is made one of another flow, and sent.
    Rewrite,
    /// It goes the path as it came.
    Path,
    /// It is made one of another flow, and goes the path.
    RewritePath,
}

impl Mode {
    /// All of them, by their numbers.
    #[cfg(feature = "dpdk")]
    pub(crate) const ALL: [Self; 4] = [Self::Plain, Self::Rewrite, Self::Path, Self::RewritePath];

    /// As it is asked for.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Rewrite => "rewrite",
            Self::Path => "path",
            Self::RewritePath => "rewrite-path",
        }
    }
}
