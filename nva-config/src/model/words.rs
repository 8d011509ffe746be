//! Choices that the configuration spells as one word.

/// A choice with a word for each of its values.
pub(crate) trait Word: Copy + 'static {
    /// Every value, in the order of the contract, with its word.
    const WORDS: &'static [(&'static str, Self)];
}

/// States the words of an enum once: for reading, and for `as_str` and `Display`.
macro_rules! words {
    ($name:ident { $($variant:ident = $word:literal),+ }) => {
        impl $crate::model::Word for $name {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$variant)),+];
        }

        impl $name {
            /// The word that the configuration has for it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

pub(crate) use words;
