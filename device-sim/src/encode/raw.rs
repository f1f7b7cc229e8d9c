//! Raw bytes, piece by piece.

use fleet_contract::model::payload::{RawForm, RawNumber, RawPart, TextPiece, unhex};

use super::{Builder, Format, Padding, Piece};

pub(super) struct Raw;

impl Format for Raw {
    type Document = [RawPart];

    const PATH: &'static str = "/raw";

    fn compile(parts: &[RawPart], builder: &mut Builder<'_>) {
        for (number, part) in parts.iter().enumerate() {
            let path = format!("{}/{number}", Self::PATH);
            match part {
                RawPart::Hex(digits) => match unhex(digits) {
                    Ok(bytes) => builder.literal(&bytes),
                    Err(message) => builder.problem(&path, message),
                },
                RawPart::Text(text) => {
                    let pieces = builder.split(text, &path);
                    builder.text(&pieces, &path);
                }
                RawPart::Number(number) => binary(builder, number, &path),
            }
        }
    }

    fn padding(_parts: &[RawPart]) -> Padding {
        Padding::Zeros
    }
}

fn binary(builder: &mut Builder<'_>, number: &RawNumber, path: &str) {
    let pieces = builder.split(&number.value, path);
    let source = match pieces.as_slice() {
        [TextPiece::Slot(slot)] => builder.source(slot, path),
        _ => None,
    };
    match source {
        Some(source) => builder.pieces.push(Piece::Binary { source, form: number.form, scale: number.scale }),
        None => builder.problem(path, format!("`{}` is not one placeholder with a number", number.value)),
    }
}

/// Writes a number in binary; what does not fit becomes the nearest that does.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, which is what is promised")]
pub(super) fn write(number: f64, form: RawForm, scale: f64, out: &mut Vec<u8>) {
    let scaled = number * scale;
    let whole = scaled.round();
    match form {
        RawForm::U8 => out.push(whole as u8),
        RawForm::I8 => out.push((whole as i8).cast_unsigned()),
        RawForm::U16le => out.extend_from_slice(&(whole as u16).to_le_bytes()),
        RawForm::U16be => out.extend_from_slice(&(whole as u16).to_be_bytes()),
        RawForm::I16le => out.extend_from_slice(&(whole as i16).to_le_bytes()),
        RawForm::I16be => out.extend_from_slice(&(whole as i16).to_be_bytes()),
        RawForm::U32le => out.extend_from_slice(&(whole as u32).to_le_bytes()),
        RawForm::U32be => out.extend_from_slice(&(whole as u32).to_be_bytes()),
        RawForm::I32le => out.extend_from_slice(&(whole as i32).to_le_bytes()),
        RawForm::I32be => out.extend_from_slice(&(whole as i32).to_be_bytes()),
        RawForm::U64le => out.extend_from_slice(&(whole as u64).to_le_bytes()),
        RawForm::U64be => out.extend_from_slice(&(whole as u64).to_be_bytes()),
        RawForm::I64le => out.extend_from_slice(&(whole as i64).to_le_bytes()),
        RawForm::I64be => out.extend_from_slice(&(whole as i64).to_be_bytes()),
        RawForm::F32le => out.extend_from_slice(&(scaled as f32).to_le_bytes()),
        RawForm::F32be => out.extend_from_slice(&(scaled as f32).to_be_bytes()),
        RawForm::F64le => out.extend_from_slice(&scaled.to_le_bytes()),
        RawForm::F64be => out.extend_from_slice(&scaled.to_be_bytes()),
    }
}
