//! Enumerations whose numbers go over the wire.

/// An enumeration of the wire: known numbers have a name, as `ovs-ofctl` prints it, and any other number is
/// kept.
macro_rules! wire_enum {
    ($(#[$meta:meta])* $name:ident: $int:ty {
        $($(#[$doc:meta])* $variant:ident = $number:literal $text:literal,)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$doc])* $variant,)*
            /// Any other number.
            Other($int),
        }

        impl $name {
            pub(super) const fn from_wire(number: $int) -> Self {
                match number {
                    $($number => Self::$variant,)*
                    other => Self::Other(other),
                }
            }

            pub(super) const fn to_wire(self) -> $int {
                match self {
                    $(Self::$variant => $number,)*
                    Self::Other(other) => other,
                }
            }
        }

        /// The name that `ovs-ofctl` prints; the number if there is none.
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $(Self::$variant => f.write_str($text),)*
                    Self::Other(other) => write!(f, "{other}"),
                }
            }
        }
    };
}
