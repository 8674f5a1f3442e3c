//! AMF0 as it is sent, and as it should not be.

use super::{Error, Reader, Value, Writer};
use crate::flv::hex::hex;
use crate::rtmp::limits::{AMF_DEPTH_MAX, AMF_VALUES_MAX, STRING_BYTES_MAX};

fn check(bytes: &str, expected: &str) {
    let bytes = hex(bytes);
    let mut reader = Reader::new(&bytes);
    let mut got = Vec::new();
    while !reader.is_empty() {
        match reader.value() {
            Ok(value) => got.push(format!("{value:?}")),
            Err(error) => {
                got.push(error.to_string());
                break;
            }
        }
    }
    assert_eq!(got.join("; "), expected);
}

#[test]
fn values_of_every_type_are_read() {
    check("00 3ff0000000000000 01 00 01 ff", "Number(1.0); Boolean(false); Boolean(true)");
    check("02 0003 616263 02 0000 0c 00000001 78", r#"String("abc"); String(""); String("x")"#);
    check("05 06 0d", "Null; Null; Null");
    check("03 0001 61 0101 0001 62 05 0000 09", r#"Object([("a", Boolean(true)), ("b", Null)])"#);
    check("10 0002 5454 0001 61 05 0000 09", r#"Object([("a", Null)])"#);
    check("0a 00000002 05 0100", "Array([Null, Boolean(false)])");
    check("0b 4270000000000000 0000", "Number(1099511627776.0)");
    check("07 0001 0f 00000003 3c613e", "Omitted; Omitted");
}

#[test]
fn the_count_of_an_ecma_array_is_not_believed() {
    let expected = r#"Object([("a", Null)])"#;
    check("08 00000000 0001 61 05 0000 09", expected);
    check("08 ffffffff 0001 61 05 0000 09", expected);
}

#[test]
fn an_empty_name_is_a_name_where_no_end_follows() {
    check("03 0000 05 0000 09", r#"Object([("", Null)])"#);
}

#[test]
fn text_that_is_not_utf_8_is_replaced() {
    check("02 0002 ff61", "String(\"\u{fffd}a\")");
}

#[test]
fn a_long_string_is_read_over() {
    let length = STRING_BYTES_MAX + 1;
    check(&format!("0c {length:08x} {} 05", "61".repeat(length)), "Omitted; Null");
}

#[test]
fn values_that_end_early_or_have_no_type_are_errors() {
    for bytes in
        ["00 3ff0", "01", "02 0003 6162", "03 0001 61", "03 0000", "0a 00000001", "0c 7fffffff 61", "0b 00"]
    {
        check(bytes, "the value ends early");
    }
    for marker in ["04", "09", "0e", "11", "ff"] {
        check(marker, &format!("type marker 0x{marker} is not supported"));
    }
}

/// facts/crates.md §3: these end two crates' processes, and the third takes 20 s of CPU and 5 GB.
#[test]
fn an_array_that_claims_billions_costs_nothing() {
    check("0a ffffffff", "the value ends early");
    check("0a 03ffffff", "the value ends early");
}

/// facts/clients.md 7: a stack overflow in three of five servers.
#[test]
fn nesting_has_an_end() {
    let levels = 200_000;
    for (open, close) in [("03 0001 61", "0000 09"), ("0a 00000001", ""), ("08 00000001 0001 61", "0000 09")]
    {
        let deep = |levels: usize| format!("{} 05 {}", open.repeat(levels), close.repeat(levels));
        check(&deep(levels), Error::TooDeep.to_string().as_str());
        let bytes = hex(&deep(AMF_DEPTH_MAX));
        assert!(Reader::new(&bytes).value().is_ok());
        let bytes = hex(&deep(AMF_DEPTH_MAX + 1));
        assert_eq!(Reader::new(&bytes).value(), Err(Error::TooDeep));
    }
}

#[test]
fn the_number_of_values_has_an_end() {
    let bytes = vec![5; AMF_VALUES_MAX + 1];
    let mut reader = Reader::new(&bytes);
    for _ in 0..AMF_VALUES_MAX {
        assert_eq!(reader.value(), Ok(Value::Null));
    }
    assert_eq!(reader.value(), Err(Error::TooMany));
    assert_eq!(Error::TooMany.to_string(), "more than 16384 values");
}

#[test]
fn what_is_written_is_read_again() {
    let mut out = Writer::new();
    assert!(out.is_empty());
    out.string("onStatus").number(0.0).null().object(|info| {
        info.name("level").string("status").name("ok").boolean(true);
        info.name("list").strings(&["a", "b"]);
    });
    out.ecma_array(1, |array| _ = array.name("n").number(2.5)).string(&"x".repeat(70_000));
    assert!(out.len() > 70_000);
    let written = out.finish();
    let mut reader = Reader::new(&written);
    let mut next = || format!("{:?}", reader.value().unwrap());
    assert_eq!(next(), r#"String("onStatus")"#);
    assert_eq!(next(), "Number(0.0)");
    assert_eq!(next(), "Null");
    assert_eq!(
        next(),
        r#"Object([("level", String("status")), ("ok", Boolean(true)), ("list", Array([String("a"), String("b")]))])"#
    );
    assert_eq!(next(), r#"Object([("n", Number(2.5))])"#);
    assert_eq!(next(), "Omitted");
    assert!(reader.is_empty());
}

#[test]
fn a_value_is_asked_for_what_it_is() {
    let object = Value::Object(vec![("a".to_owned(), Value::Number(1.0)), ("a".to_owned(), Value::Null)]);
    assert_eq!(object.property("a").and_then(Value::number), Some(1.0));
    assert_eq!(object.property("b"), None);
    for value in [object, Value::Null, Value::Boolean(true), Value::Array(vec![]), Value::Omitted] {
        assert_eq!((value.number(), value.string()), (None, None));
    }
    assert_eq!(Value::Number(1.0).string(), None);
    assert_eq!(Value::String(String::new()).number(), None);
    assert!(Value::String(String::new()).properties().is_empty());
}
