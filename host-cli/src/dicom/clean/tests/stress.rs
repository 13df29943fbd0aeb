//! The stress image: every attribute of the table planted at the top level and within a kept sequence, with markers.

use super::*;

/// Planted attributes and their values, as far as they hold a value of their own.
type Planted = BTreeMap<Tag, (VR, Vec<u8>)>;

/// A value that could be anybody's, as its VR allows it, and unlike that of any other tag.
fn planted(tag: Tag, vr: VR) -> Vec<u8> {
    let number = format!("{:04X}{:04X}", tag.group(), tag.element());
    let decimal = u32::from(tag.group()) << 16 | u32::from(tag.element());
    let text = match vr {
        VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::UN => format!("PLANT{number}PLANT{number}______"),
        VR::UR => format!("http://PLANT{number}"),
        VR::UI => format!("1.77.{decimal}"),
        VR::DA => String::from("19770401"),
        VR::TM => String::from("071717"),
        VR::DT => String::from("19770401071717"),
        VR::AS => String::from("077Y"),
        VR::DS | VR::IS => String::from("7717"),
        VR::AT | VR::FL | VR::SL | VR::UL => String::from("\x17\x07\x17\x07"),
        VR::FD | VR::SV | VR::UV => String::from("\x17\x07\x17\x07\x17\x07\x17\x07"),
        VR::SS | VR::US => String::from("\x17\x07"),
        _ => format!("PLANT{number}"),
    };
    values::padded(vr, text.into_bytes())
}

/// Every row of the table, two curves and overlays for each pattern; sequences hold an item with markers of their own.
fn everything(encoding: Encoding) -> (Vec<u8>, Planted) {
    let mut tags_of: BTreeSet<Tag> = BTreeSet::new();
    for row in rows() {
        let number = |text: &str| u32::from_str_radix(text, 16).ok();
        let numbers = match row.tag {
            "PRIVATE" => vec![0x0009_0010, 0x0009_1001, 0x7777_0010, 0x7777_1077],
            tag if tag.contains('x') => {
                let element = if tag.ends_with('x') { tag.replace("xxxx", "3000") } else { tag.into() };
                ["00", "02", "1E"].iter().filter_map(|group| number(&element.replacen("xx", group, 1))).collect()
            }
            tag => number(tag).into_iter().collect(),
        };
        tags_of.extend(numbers.into_iter().map(|number| Tag((number >> 16) as u16, (number & 0xFFFF) as u16)));
    }
    // Unknown attributes, one in a group of the standard; the label of an overlay, which the table does not name.
    tags_of.extend([Tag(0x0028, 0x7777), Tag(0x0066, 0x7777), Tag(0x6002, 0x1500)]);
    let (mut out, mut planted_values) = (Vec::new(), Planted::new());
    // Groups below 0008 are not of the data set; dicom-rs reads what is there all the same.
    for tag in tags_of {
        let vr = StandardDataDictionary.by_tag(tag).map_or(VR::LO, |entry| entry.vr().relaxed());
        let vr = if tag.group() % 2 == 1 { VR::LO } else { vr };
        let value = match vr {
            VR::SQ => {
                let item = [
                    element(encoding, Tag(0x0010, 0x0010), VR::PN, &planted(tag, VR::PN)),
                    element(encoding, Tag(0x0010, 0x4000), VR::LT, &planted(tag, VR::LT)),
                    element(encoding, Tag(0x0040, 0xA160), VR::UT, &planted(tag, VR::UT)),
                ];
                let mut contents = Vec::new();
                dataset::write_item(&mut contents, encoding, &item.concat());
                contents
            }
            vr => {
                let value = planted(tag, vr);
                planted_values.insert(tag, (vr, value.clone()));
                value
            }
        };
        out.extend(element(encoding, tag, vr, &value));
    }
    (out, planted_values)
}

/// The planted words that are left, each once.
fn markers(bytes: &[u8]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for needle in [&b"PLANT"[..], b"1.77.", b"19770401"] {
        for (position, window) in bytes.windows(needle.len()).enumerate() {
            if window == needle {
                let end = bytes.len().min(position + 13);
                found.insert(String::from_utf8_lossy(&bytes[position..end]).into_owned());
            }
        }
    }
    found
}

/// Attributes whose value is what was planted.
fn unchanged(elements: &[Element<'_>], planted: &Planted) -> BTreeSet<Tag> {
    let same =
        |element: &&Element<'_>| planted.get(&element.tag).is_some_and(|(_, value)| element.bytes() == Some(value));
    elements.iter().filter(same).map(|element| element.tag).collect()
}

fn nested<'a, 'b>(elements: &'b [Element<'a>]) -> &'b [Element<'a>] {
    let kept = elements.iter().find(|element| element.tag == KEPT_SEQUENCE).map(|element| &element.value);
    match kept {
        Some(Value::Items(items, _)) => items.first().map_or(&[], Vec::as_slice),
        _ => panic!("the kept sequence is gone"),
    }
}

/// The stress image: the kept sequence holds everything, and is among everything.
fn image(encoding: Encoding) -> (Vec<u8>, Planted) {
    let (all, planted) = everything(encoding);
    let deep = sequence(encoding, KEPT_SEQUENCE, &[&all]);
    let mut image = Vec::new();
    for element in dataset::parse(&all, encoding).expect("parses") {
        let bytes = if element.tag == KEPT_SEQUENCE { deep.as_slice() } else { element.raw };
        image.extend_from_slice(bytes);
    }
    (image, planted)
}

/// How many attributes are unchanged at the top level, how many within the kept sequence, and which markers are left.
fn left(encoding: Encoding, profile: &Profile) -> (BTreeSet<Tag>, BTreeSet<Tag>, BTreeSet<String>) {
    let (image, planted) = image(encoding);
    let before = dataset::parse(&image, encoding).expect("parses");
    assert_eq!(unchanged(&before, &planted).len(), planted.len(), "the test plants too little");
    assert_eq!(unchanged(nested(&before), &planted).len(), planted.len());
    assert!(planted.len() > 600 && markers(&image).len() > 450, "{} and {}", planted.len(), markers(&image).len());
    let bytes = cleaned(&image, encoding, profile);
    let after = dataset::parse(&bytes, encoding).expect("parses");
    let left = (unchanged(&after, &planted), unchanged(nested(&after), &planted), markers(&bytes));
    println!(
        "{} in {encoding:?}: of {} planted attributes {} unchanged at the top, {} nested, {} of {} markers left",
        profile.name,
        planted.len(),
        left.0.len(),
        left.1.len(),
        left.2.len(),
        markers(&image).len()
    );
    left
}

#[test]
fn of_all_that_was_planted_nothing_is_left() {
    let none = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for encoding in ENCODINGS {
        assert_eq!(left(encoding, &profile(&[], "")), none, "the basic profile in {encoding:?}");
        let cleaning =
            ["clean-descriptors", "clean-structured-content", "clean-graphics", "retain-longitudinal-modified-dates"];
        // Times of day are the same on another day, and that is what the option asks for.
        let (top, deep, markers) = left(encoding, &profile(&cleaning, ""));
        for tag in top.iter().chain(&deep) {
            assert_eq!(StandardDataDictionary.by_tag(*tag).map(|entry| entry.vr().relaxed()), Some(VR::TM), "{tag}");
        }
        assert_eq!(markers, BTreeSet::new(), "all that can be cleaned in {encoding:?}");
    }
}

#[test]
fn an_option_keeps_what_its_column_keeps_and_nothing_else() {
    for column in Column::ALL {
        if matches!(column, Column::RetainSafePrivate) {
            continue;
        }
        let (top, deep, _) = left(EXPLICIT, &profile(&[column.name()], ""));
        for tag in top.union(&deep) {
            let row = table::row(*tag).unwrap_or_else(|| panic!("{tag} is not in the table and stayed"));
            let kept = row.codes.option(column);
            assert!(kept.is_some(), "{tag} {} stayed by {column:?}", row.name);
            let times = column == Column::RetainModifiedDates;
            assert!(kept == Some(Choice::Keep) || times, "{tag} {} was to be cleaned", row.name);
        }
        let keeps = rows().iter().filter(|row| row.codes.option(column) == Some(Choice::Keep)).count();
        assert_eq!(keeps > 0, !top.is_empty() && column != Column::RetainModifiedDates, "{column:?}");
    }
}
