//! AMF0, the notation of RTMP's commands and metadata (Action Message Format -- AMF 0, 2007).
//!
//! Nothing is allocated on the word of a count or length: memory grows with bytes that are there, depth and number of values have
//! bounds, and what nobody sends is an error.

use bytes::{BufMut, BytesMut};

use super::limits::{AMF_DEPTH_MAX, AMF_VALUES_MAX, STRING_BYTES_MAX};

/// Why bytes are not AMF0 that we take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes end inside a value.
    #[error("the value ends early")]
    Truncated,
    /// A type marker that AMF0 has not, or that nobody sends.
    #[error("type marker {0:#04x} is not supported")]
    Marker(u8),
    /// Objects in objects.
    #[error("nested deeper than {max}", max = AMF_DEPTH_MAX)]
    TooDeep,
    /// Too many values in one message.
    #[error("more than {max} values", max = AMF_VALUES_MAX)]
    TooMany,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Number, and Date as milliseconds since 1970.
    Number(f64),
    /// Boolean.
    Boolean(bool),
    /// String and Long String. What is not UTF-8 is replaced.
    String(String),
    /// Object, ECMA array and typed object: names and values in the order sent.
    Object(Vec<(String, Value)>),
    /// Strict array.
    Array(Vec<Value>),
    /// Null, Undefined and Unsupported.
    Null,
    /// Read over: a reference, XML, or a string longer than [`STRING_BYTES_MAX`].
    Omitted,
}

/// Markers (AMF0 §2.1).
mod marker {
    pub(super) const NUMBER: u8 = 0;
    pub(super) const BOOLEAN: u8 = 1;
    pub(super) const STRING: u8 = 2;
    pub(super) const OBJECT: u8 = 3;
    pub(super) const NULL: u8 = 5;
    pub(super) const UNDEFINED: u8 = 6;
    pub(super) const REFERENCE: u8 = 7;
    pub(super) const ECMA_ARRAY: u8 = 8;
    pub(super) const OBJECT_END: u8 = 9;
    pub(super) const STRICT_ARRAY: u8 = 10;
    pub(super) const DATE: u8 = 11;
    pub(super) const LONG_STRING: u8 = 12;
    pub(super) const UNSUPPORTED: u8 = 13;
    pub(super) const XML: u8 = 15;
    pub(super) const TYPED_OBJECT: u8 = 16;
}

impl Value {
    /// The number, if it is one.
    pub fn number(&self) -> Option<f64> {
        match self {
            Value::Number(number) => Some(*number),
            Value::Boolean(_)
            | Value::String(_)
            | Value::Object(_)
            | Value::Array(_)
            | Value::Null
            | Value::Omitted => None,
        }
    }

    /// The string, if it is one.
    pub fn string(&self) -> Option<&str> {
        match self {
            Value::String(string) => Some(string),
            Value::Number(_)
            | Value::Boolean(_)
            | Value::Object(_)
            | Value::Array(_)
            | Value::Null
            | Value::Omitted => None,
        }
    }

    /// The names and values, if it is an object; else none.
    pub fn properties(&self) -> &[(String, Value)] {
        match self {
            Value::Object(properties) => properties,
            Value::Number(_)
            | Value::Boolean(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Null
            | Value::Omitted => &[],
        }
    }

    /// A property of an object by name; the first, if there are several.
    pub fn property(&self, name: &str) -> Option<&Value> {
        self.properties().iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

/// Reads values one after another from the body of a message.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    values: usize,
}

impl<'a> Reader<'a> {
    /// A reader of `body`, with the whole budget of values.
    pub fn new(body: &'a [u8]) -> Self {
        Reader { rest: body, values: 0 }
    }

    /// True when all is read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next value; at the end of the body it is [`Error::Truncated`].
    pub fn value(&mut self) -> Result<Value, Error> {
        self.value_at(0)
    }

    fn value_at(&mut self, depth: usize) -> Result<Value, Error> {
        if depth > AMF_DEPTH_MAX {
            return Err(Error::TooDeep);
        }
        self.values += 1;
        if self.values > AMF_VALUES_MAX {
            return Err(Error::TooMany);
        }
        match self.u8()? {
            marker::NUMBER => self.number().map(Value::Number),
            marker::BOOLEAN => Ok(Value::Boolean(self.u8()? != 0)),
            marker::STRING => {
                let length = self.u16()?;
                self.string(length.into())
            }
            marker::LONG_STRING => {
                let length = self.u32()?;
                self.string(length as usize)
            }
            marker::OBJECT => self.properties(depth),
            marker::ECMA_ARRAY => {
                // The count is a hint that some encoders get wrong; the end marker rules.
                self.u32()?;
                self.properties(depth)
            }
            marker::TYPED_OBJECT => {
                let length = self.u16()?;
                self.take(length.into())?;
                self.properties(depth)
            }
            marker::STRICT_ARRAY => {
                let count = self.u32()?;
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(self.value_at(depth + 1)?);
                }
                Ok(Value::Array(values))
            }
            marker::DATE => {
                let date = self.number()?;
                self.u16()?;
                Ok(Value::Number(date))
            }
            marker::NULL | marker::UNDEFINED | marker::UNSUPPORTED => Ok(Value::Null),
            marker::REFERENCE => self.u16().map(|_| Value::Omitted),
            marker::XML => {
                let length = self.u32()?;
                self.take(length as usize).map(|_| Value::Omitted)
            }
            other => Err(Error::Marker(other)),
        }
    }

    fn properties(&mut self, depth: usize) -> Result<Value, Error> {
        let mut properties = Vec::new();
        loop {
            let length = self.u16()?;
            let name = self.take(length.into())?;
            if name.is_empty() && self.rest.first() == Some(&marker::OBJECT_END) {
                self.u8()?;
                return Ok(Value::Object(properties));
            }
            let name = String::from_utf8_lossy(name).into_owned();
            properties.push((name, self.value_at(depth + 1)?));
        }
    }

    fn string(&mut self, length: usize) -> Result<Value, Error> {
        let bytes = self.take(length)?;
        if length > STRING_BYTES_MAX {
            return Ok(Value::Omitted);
        }
        Ok(Value::String(String::from_utf8_lossy(bytes).into_owned()))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, Error> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_be_bytes)
    }

    fn number(&mut self) -> Result<f64, Error> {
        self.array().map(f64::from_be_bytes)
    }
}

/// Writes values one after another.
#[derive(Debug, Default)]
pub struct Writer {
    out: BytesMut,
}

impl Writer {
    /// An empty body.
    pub fn new() -> Self {
        Writer::default()
    }

    /// The bytes so far.
    pub fn finish(self) -> BytesMut {
        self.out
    }

    /// How many bytes there are so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// True while nothing is written.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// A number.
    pub fn number(&mut self, number: f64) -> &mut Self {
        self.out.put_u8(marker::NUMBER);
        self.out.put_f64(number);
        self
    }

    /// A boolean.
    pub fn boolean(&mut self, boolean: bool) -> &mut Self {
        self.out.put_u8(marker::BOOLEAN);
        self.out.put_u8(u8::from(boolean));
        self
    }

    /// A string; longer than 65 535 bytes it becomes a Long String.
    pub fn string(&mut self, string: &str) -> &mut Self {
        match u16::try_from(string.len()) {
            Ok(length) => {
                self.out.put_u8(marker::STRING);
                self.out.put_u16(length);
            }
            Err(_) => {
                self.out.put_u8(marker::LONG_STRING);
                self.out.put_u32(string.len() as u32);
            }
        }
        self.out.put_slice(string.as_bytes());
        self
    }

    /// Null.
    pub fn null(&mut self) -> &mut Self {
        self.out.put_u8(marker::NULL);
        self
    }

    /// An object with what `fill` puts into it, each value behind its [`name`](Self::name).
    pub fn object(&mut self, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.out.put_u8(marker::OBJECT);
        fill(self);
        self.end()
    }

    /// An ECMA array of `count` named values.
    pub fn ecma_array(&mut self, count: u32, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.out.put_u8(marker::ECMA_ARRAY);
        self.out.put_u32(count);
        fill(self);
        self.end()
    }

    /// A strict array of the `count` values that `fill` writes.
    pub fn array(&mut self, count: u32, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.out.put_u8(marker::STRICT_ARRAY);
        self.out.put_u32(count);
        fill(self);
        self
    }

    /// A strict array of strings.
    pub fn strings(&mut self, strings: &[&str]) -> &mut Self {
        self.array(strings.len() as u32, |array| {
            for string in strings {
                array.string(string);
            }
        })
    }

    /// A reference to the first object: what stands for [`Value::Omitted`].
    pub fn omitted(&mut self) -> &mut Self {
        self.out.put_slice(&[marker::REFERENCE, 0, 0]);
        self
    }

    /// The name of the value that follows, cut at 65 535 bytes.
    pub fn name(&mut self, name: &str) -> &mut Self {
        let bytes = &name.as_bytes()[..name.len().min(usize::from(u16::MAX))];
        self.out.put_u16(bytes.len() as u16);
        self.out.put_slice(bytes);
        self
    }

    fn end(&mut self) -> &mut Self {
        self.out.put_slice(&[0, 0, marker::OBJECT_END]);
        self
    }
}

#[cfg(test)]
mod tests;
