//! What holds for any input.

use ovsdb_rs::{Atom, AtomicType, ColumnType, Datum, FrameError, Framer};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

fn atomic_type() -> impl Strategy<Value = AtomicType> {
    prop_oneof![
        Just(AtomicType::Integer),
        Just(AtomicType::Real),
        Just(AtomicType::Boolean),
        Just(AtomicType::String),
        Just(AtomicType::Uuid),
    ]
}

fn atom(ty: AtomicType) -> BoxedStrategy<Atom> {
    match ty {
        AtomicType::Integer => any::<i64>().prop_map(Atom::from).boxed(),
        AtomicType::Real => {
            any::<f64>().prop_filter("finite", |x| x.is_finite()).prop_map(Atom::from).boxed()
        }
        AtomicType::Boolean => any::<bool>().prop_map(Atom::from).boxed(),
        AtomicType::String => any::<String>().prop_map(Atom::from).boxed(),
        AtomicType::Uuid => prop_oneof![
            any::<u128>().prop_map(|bits| Atom::from(Uuid::from_u128(bits))),
            "[a-z_][a-z0-9_]{0,8}".prop_map(Atom::NamedUuid),
        ]
        .boxed(),
    }
}

fn set() -> impl Strategy<Value = (ColumnType, Datum)> {
    atomic_type().prop_flat_map(|ty| {
        vec(atom(ty), 0..6).prop_map(move |atoms| (ColumnType::set(ty), Datum::set(atoms)))
    })
}

fn map() -> impl Strategy<Value = (ColumnType, Datum)> {
    (atomic_type(), atomic_type()).prop_flat_map(|(key, value)| {
        vec((atom(key), atom(value)), 0..6)
            .prop_map(move |pairs| (ColumnType::map(key, value), Datum::map(pairs)))
    })
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[\\[\\]{}\"\\\\ ,:]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            vec((any::<String>(), inner), 0..5).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// Values that can stand alone in a stream, as they are sent: compact or with white space.
fn message() -> impl Strategy<Value = (Value, String)> {
    (json_value(), 0..3usize).prop_map(|(value, style)| {
        let value = json!({ "id": null, "value": value });
        let text = match style {
            0 => value.to_string(),
            1 => format!("\n{value} \r\n\t"),
            _ => serde_json::to_string_pretty(&value).unwrap(),
        };
        (value, text)
    })
}

/// Feeds the pieces of a stream and collects what comes out.
fn feed<'a>(
    framer: &mut Framer,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<Value>, FrameError> {
    let mut values = Vec::new();
    for piece in pieces {
        framer.push(piece);
        while let Some(value) = framer.next_value()? {
            values.push(value);
        }
    }
    Ok(values)
}

/// Cuts bytes into pieces at these places, in any order and perhaps past the end.
fn cut<'a>(bytes: &'a [u8], places: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn any_split_of_a_stream_gives_the_same_values(
        messages in vec(message(), 1..6),
        places in vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let stream: String = messages.iter().map(|(_, text)| text.as_str()).collect();
        let values: Vec<Value> = messages.into_iter().map(|(value, _)| value).collect();
        let bytes = stream.as_bytes();
        prop_assert_eq!(&feed(&mut Framer::default(), cut(bytes, &places)).unwrap(), &values);
        prop_assert_eq!(&feed(&mut Framer::default(), bytes.chunks(1)).unwrap(), &values);
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_fail_for_good(
        bytes in prop_oneof![
            vec(any::<u8>(), 0..200),
            "[\\[\\]{}\"\\\\ ,:0-9a-z\u{e9}]{0,200}".prop_map(String::into_bytes),
        ],
        places in vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut framer = Framer::default();
        let whole = feed(&mut Framer::default(), [bytes.as_slice()]);
        let split = feed(&mut framer, cut(&bytes, &places));
        prop_assert_eq!(&split, &whole);
        if let Err(error) = split {
            framer.push(b"{}");
            prop_assert_eq!(framer.next_value(), Err(error));
        }
    }

    #[test]
    fn a_message_is_as_large_as_the_limit_and_no_larger(length in 2..300usize, limit in 2..300usize) {
        let text = format!("[\"{}\"]", "x".repeat(length));
        let result = feed(&mut Framer::new(limit), text.as_bytes().chunks(7));
        if text.len() <= limit {
            prop_assert_eq!(result.unwrap().len(), 1);
        } else {
            prop_assert_eq!(result, Err(FrameError::TooLarge(limit)));
        }
    }

    #[test]
    fn a_datum_survives_its_json((ty, datum) in prop_oneof![set(), map()]) {
        let text = datum.to_json().to_string();
        let json: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(Datum::from_json(&json, &ty).unwrap(), datum);
    }

    #[test]
    fn arbitrary_json_is_a_datum_or_an_error(value in json_value(), (ty, _) in prop_oneof![set(), map()]) {
        if let Ok(datum) = Datum::from_json(&value, &ty) {
            prop_assert_eq!(Datum::from_json(&datum.to_json(), &ty).unwrap(), datum);
        }
    }
}

#[test]
fn the_json_of_rfc_7047() {
    let uuid = "550e8400-e29b-41d4-a716-446655440000";
    let id = Uuid::try_parse(uuid).unwrap();
    let cases = [
        (ColumnType::scalar(AtomicType::Integer), Datum::from(-5i64), json!(-5)),
        (ColumnType::scalar(AtomicType::String), Datum::from("set"), json!("set")),
        (ColumnType::optional(AtomicType::Boolean), Datum::empty(), json!(["set", []])),
        (ColumnType::optional(AtomicType::Boolean), Datum::from(true), json!(true)),
        (ColumnType::set(AtomicType::Integer), Datum::set([3i64, 1, 3]), json!(["set", [1, 3]])),
        (ColumnType::set(AtomicType::Uuid), Datum::from(id), json!(["uuid", uuid])),
        (ColumnType::set(AtomicType::Uuid), Datum::named_uuid("row"), json!(["named-uuid", "row"])),
        (
            ColumnType::map(AtomicType::String, AtomicType::Integer),
            Datum::map([("b", 2i64), ("a", 1)]),
            json!(["map", [["a", 1], ["b", 2]]]),
        ),
        (
            ColumnType::map(AtomicType::Uuid, AtomicType::Real),
            Datum::map([(id, 0.5)]),
            json!(["map", [[["uuid", uuid], 0.5]]]),
        ),
    ];
    for (ty, datum, json) in cases {
        assert_eq!(datum.to_json(), json);
        assert_eq!(Datum::from_json(&json, &ty).unwrap(), datum);
    }
    // Other ways to write the same.
    let reals = ColumnType::set(AtomicType::Real);
    assert_eq!(Datum::from_json(&json!(1), &reals).unwrap(), Datum::from(1.0));
    assert_eq!(Datum::from_json(&json!(["set", [1, 0.5]]), &reals).unwrap(), Datum::set([0.5, 1.0]));
    for wrong in [json!("x"), json!(null), json!(["set", 1]), json!(["map", []]), json!({})] {
        assert!(Datum::from_json(&wrong, &reals).is_err(), "{wrong}");
    }
}

#[test]
fn nesting_has_the_same_limit_in_framer_and_parser() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(feed(&mut Framer::default(), [nested(127).as_bytes()]).unwrap().len(), 1);
    assert_eq!(feed(&mut Framer::default(), [nested(128).as_bytes()]), Err(FrameError::TooDeep));
}
