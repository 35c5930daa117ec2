//! Rows as structs, checked against the schema that the server has.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::datum::{Atom, Datum};
use crate::replica::Replica;
use crate::row::Row;
use crate::schema::{AtomicType, ColumnType};

/// A struct that stands for the rows of a table; [`table!`](crate::table) writes one.
pub trait Typed: Sized {
    /// The name of the table.
    const TABLE: &'static str;
    /// The columns and what each must look like to be read.
    const COLUMNS: &'static [(&'static str, Shape)];

    /// Reads a row. A column that is not there, because the server's schema lacks it or has it with another
    /// type, has the value that the field's type has by default.
    fn from_row(uuid: Uuid, row: &Row) -> Self;
}

/// The type of a column as a field has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Exactly one value.
    Scalar(AtomicType),
    /// No value or one.
    Optional(AtomicType),
    /// Any number of values.
    Set(AtomicType),
    /// Any number of pairs, of these types.
    Map(AtomicType, AtomicType),
}

impl Shape {
    /// Whether every value of such a column can be read as this shape.
    pub fn fits(self, ty: &ColumnType) -> bool {
        let key = ty.key.atomic;
        match (self, &ty.value) {
            (Self::Scalar(atomic), None) => atomic == key && ty.min == 1 && ty.max == Some(1),
            (Self::Optional(atomic), None) => atomic == key && ty.max == Some(1),
            (Self::Set(atomic), None) => atomic == key,
            (Self::Map(from, to), Some(value)) => from == key && to == value.atomic,
            _ => false,
        }
    }
}

/// A type that a column can be read as: `i64`, `f64`, `bool`, `String` or [`Uuid`] for exactly one value,
/// `Option` of those, `Vec` of those for a set, in order, and `BTreeMap` of two of them.
pub trait Field: Default {
    /// What the column must look like.
    const SHAPE: Shape;

    /// Reads a value of a column of that shape.
    fn read(datum: &Datum) -> Option<Self>;
}

/// One value, the element of every other [`Field`].
pub trait Element: Default {
    /// Its type.
    const TYPE: AtomicType;

    /// Reads an atom of that type.
    fn read(atom: &Atom) -> Option<Self>;
}

macro_rules! element {
    ($($rust:ty => $variant:ident),* $(,)?) => {$(
        impl Element for $rust {
            const TYPE: AtomicType = AtomicType::$variant;

            fn read(atom: &Atom) -> Option<Self> {
                match atom {
                    Atom::$variant(value) => Some(value.clone()),
                    _ => None,
                }
            }
        }

        impl Field for $rust {
            const SHAPE: Shape = Shape::Scalar(AtomicType::$variant);

            fn read(datum: &Datum) -> Option<Self> {
                Element::read(datum.scalar()?)
            }
        }
    )*};
}
element!(i64 => Integer, f64 => Real, bool => Boolean, String => String, Uuid => Uuid);

impl<E: Element> Field for Option<E> {
    const SHAPE: Shape = Shape::Optional(E::TYPE);

    fn read(datum: &Datum) -> Option<Self> {
        Some(datum.scalar().and_then(E::read))
    }
}

impl<E: Element> Field for Vec<E> {
    const SHAPE: Shape = Shape::Set(E::TYPE);

    fn read(datum: &Datum) -> Option<Self> {
        datum.atoms().iter().map(E::read).collect()
    }
}

impl<K: Element + Ord, V: Element> Field for BTreeMap<K, V> {
    const SHAPE: Shape = Shape::Map(K::TYPE, V::TYPE);

    fn read(datum: &Datum) -> Option<Self> {
        let Datum::Map(pairs) = datum else { return None };
        pairs.iter().map(|(key, value)| Some((K::read(key)?, V::read(value)?))).collect()
    }
}

impl Replica {
    /// The rows of a table as structs.
    pub fn rows<T: Typed>(&self) -> impl Iterator<Item = T> {
        self.table(T::TABLE).map(|(uuid, row)| T::from_row(*uuid, row))
    }

    /// One row as a struct.
    pub fn row<T: Typed>(&self, uuid: &Uuid) -> Option<T> {
        Some(T::from_row(*uuid, self.get(T::TABLE, uuid)?))
    }

    /// The rows that a column refers to, a set of references or an optional one, as structs. One that is not
    /// in the replica is left out.
    pub fn referenced<'a, T: Typed>(
        &'a self,
        uuids: impl IntoIterator<Item = &'a Uuid>,
    ) -> impl Iterator<Item = T> {
        uuids.into_iter().filter_map(|uuid| self.row(uuid))
    }

    /// Whether the column can be read: it is monitored, and the server's schema has it with the type that is
    /// expected. For a feature that needs a newer release of the schema.
    pub fn has_column(&self, table: &str, column: &str) -> bool {
        self.tables.get(table).is_some_and(|table| table.has_column(column))
    }
}

/// The column of a field whose name is a word of Rust's, such as `r#type`.
#[doc(hidden)]
pub const fn column_name(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', ..] => field.split_at(2).1,
        _ => field,
    }
}

/// Declares a struct for the rows of a table, or several, with a field for each column that is wanted; every
/// [`Field`] type will do. The struct also has the row's `uuid`, and is a [`Typed`].
///
/// A release of the schema without one of the columns is no error: the field has its default value, the
/// session says once what is missing, and [`Replica::has_column`] tells whether to use it.
///
/// ```
/// use std::collections::BTreeMap;
///
/// ovsdb_rs::table! {
///     /// A network interface of Open vSwitch.
///     pub struct Interface in "Interface" {
///         pub name: String,
///         pub ofport: Option<i64>,
///         pub external_ids: BTreeMap<String, String>,
///     }
///
///     struct Port in "Port" {
///         interfaces: Vec<uuid::Uuid>,
///     }
/// }
///
/// use ovsdb_rs::{Datum, Replica, Row, TableMonitor, Uuid};
///
/// let uuid = Uuid::new_v4();
/// let replica = Replica::default()
///     .with_row("Interface", uuid, Row::new().with("name", "tap0").with("ofport", 7))
///     .with_row("Port", Uuid::new_v4(), Row::new().with("interfaces", Datum::set([uuid])));
/// let port: Port = replica.rows().next().unwrap();
/// let interface: Interface = replica.referenced(&port.interfaces).next().unwrap();
/// assert_eq!((interface.name.as_str(), interface.ofport), ("tap0", Some(7)));
/// let monitors = vec![TableMonitor::of::<Interface>(), TableMonitor::of::<Port>()];
/// # let _ = monitors;
/// ```
#[macro_export]
macro_rules! table {
    ($(
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident in $table:literal {
            $($(#[$field_attribute:meta])* $field_visibility:vis $field:ident: $type:ty),* $(,)?
        }
    )+) => {$(
        $(#[$attribute])*
        #[derive(Debug, Clone, PartialEq)]
        $visibility struct $name {
            /// The row.
            $visibility uuid: $crate::Uuid,
            $($(#[$field_attribute])* $field_visibility $field: $type,)*
        }

        impl $crate::Typed for $name {
            const TABLE: &'static str = $table;
            const COLUMNS: &'static [(&'static str, $crate::Shape)] =
                &[$(($crate::column_name(stringify!($field)), <$type as $crate::Field>::SHAPE)),*];

            fn from_row(uuid: $crate::Uuid, row: &$crate::Row) -> Self {
                Self {
                    uuid,
                    $($field: row
                        .datum($crate::column_name(stringify!($field)))
                        .and_then(<$type as $crate::Field>::read)
                        .unwrap_or_default(),)*
                }
            }
        }
    )+};
}
