//! The boxes of a HEIF file that say which item is the picture, what belongs to it and where it lies.
//!
//! Guarantee: nothing is read outside the file, whatever the boxes say; all that is copied is at most
//! twice the file, and of whatever it lists so many entries are held as real files have at most.

use std::cell::Cell;

/// Items, references and properties that are looked at, and in all their parts and associations, which
/// can be listed in no bytes at all; files have a handful, grids some dozens.
const ENTRIES_MAX: usize = 16_384;

type Name = [u8; 4];

/// Reads numbers, most significant byte first; once past the end it yields nothing any more.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, bytes: usize) -> Option<u64> {
        let taken = self.take(bytes)?;
        Some(
            taken
                .iter()
                .fold(0, |sum, &byte| sum << 8 | u64::from(byte)),
        )
    }

    /// An id of two bytes, or of four.
    fn id(&mut self, long: bool) -> Option<u32> {
        self.number(if long { 4 } else { 2 }).map(|id| id as u32)
    }

    fn name(&mut self) -> Option<Name> {
        self.take(4)?.first_chunk().copied()
    }

    /// Version and flags of a full box.
    fn version(&mut self) -> Option<(u8, u32)> {
        let word = self.number(4)? as u32;
        Some(((word >> 24) as u8, word & 0x00FF_FFFF))
    }

    fn next_box(&mut self) -> Option<(Name, &'a [u8])> {
        let whole = self.0;
        let size = self.number(4)?;
        let name = self.name()?;
        let (size, head) = match size {
            0 => (whole.len() as u64, 8),
            1 => (self.number(8)?, 16),
            size => (size, 8),
        };
        let size = usize::try_from(size).ok()?;
        let payload = whole.get(head..size)?;
        self.0 = &whole[size..];
        Some((name, payload))
    }
}

fn boxes(data: &[u8]) -> impl Iterator<Item = (Name, &[u8])> {
    let mut reader = Reader(data);
    std::iter::from_fn(move || reader.next_box()).take(ENTRIES_MAX)
}

fn find(data: &[u8], name: Name) -> Option<&[u8]> {
    boxes(data)
        .find(|(found, _)| *found == name)
        .map(|found| found.1)
}

struct Location {
    item: u32,
    /// In the box `idat`, not in the file.
    inside: bool,
    /// From, length; 0 is to the end.
    extents: Vec<(u64, u64)>,
}

struct Reference {
    name: Name,
    from: u32,
    to: Vec<u32>,
}

/// What the box `meta` says.
pub(super) struct Meta<'a> {
    /// The item that is the picture.
    pub(super) primary: u32,
    file: &'a [u8],
    idat: &'a [u8],
    kinds: Vec<(u32, Name)>,
    locations: Vec<Location>,
    references: Vec<Reference>,
    properties: Vec<(Name, &'a [u8])>,
    /// Item and, from 1, the number of a property.
    associations: Vec<(u32, usize)>,
    /// Bytes that may still be copied.
    left: Cell<usize>,
}

impl<'a> Meta<'a> {
    /// Reads the box `meta`; `None` when it is broken or missing.
    pub(super) fn read(file: &'a [u8]) -> Option<Self> {
        let meta = find(file, *b"meta")?.get(4..)?;
        let mut pitm = Reader(find(meta, *b"pitm")?);
        let (version, _) = pitm.version()?;
        let primary = pitm.id(version > 0)?;
        let iprp = find(meta, *b"iprp")?;
        let mut associations = Vec::new();
        for (_, ipma) in boxes(iprp).filter(|(name, _)| name == b"ipma") {
            associate(ipma, &mut associations)?;
        }
        Some(Self {
            primary,
            file,
            idat: find(meta, *b"idat").unwrap_or_default(),
            kinds: kinds(find(meta, *b"iinf")?)?,
            locations: locations(find(meta, *b"iloc")?)?,
            references: find(meta, *b"iref").map_or(Some(Vec::new()), references)?,
            properties: boxes(find(iprp, *b"ipco")?).collect(),
            associations,
            left: Cell::new(file.len().saturating_mul(2)),
        })
    }

    /// What an item is.
    pub(super) fn kind(&self, item: u32) -> Option<&Name> {
        let mut kinds = self.kinds.iter();
        kinds.find(|(id, _)| *id == item).map(|(_, kind)| kind)
    }

    /// An item's properties of one name.
    pub(super) fn properties(&self, item: u32, name: Name) -> impl Iterator<Item = &'a [u8]> {
        let of_item = self.associations.iter().filter(move |(id, _)| *id == item);
        of_item.filter_map(move |&(_, number)| {
            let (found, payload) = self.properties.get(number.checked_sub(1)?)?;
            (*found == name).then_some(*payload)
        })
    }

    /// An item's first property of one name.
    pub(super) fn property(&self, item: u32, name: Name) -> Option<&'a [u8]> {
        self.properties(item, name).next()
    }

    /// The items that `from` refers to.
    pub(super) fn referred(&self, name: Name, from: u32) -> Vec<u32> {
        let mut found = self.references.iter();
        let found = found.find(|reference| reference.name == name && reference.from == from);
        found
            .map(|reference| reference.to.clone())
            .unwrap_or_default()
    }

    /// Whether `from` refers to `to`.
    pub(super) fn refers(&self, name: Name, from: u32, to: u32) -> bool {
        self.referred(name, from).contains(&to)
    }

    /// The items that refer to `to`.
    pub(super) fn referring(&self, name: Name, to: u32) -> impl Iterator<Item = u32> {
        let found = self.references.iter();
        found
            .filter(move |reference| reference.name == name && reference.to.contains(&to))
            .map(|reference| reference.from)
    }

    /// An item's data; `None` when a part of it is missing.
    pub(super) fn data(&self, item: u32) -> Option<Vec<u8>> {
        let location = self
            .locations
            .iter()
            .find(|location| location.item == item)?;
        let source = if location.inside {
            self.idat
        } else {
            self.file
        };
        let mut data = Vec::new();
        for &(from, length) in &location.extents {
            let rest = source.get(usize::try_from(from).ok()?..)?;
            let part = match length {
                0 => rest,
                length => rest.get(..usize::try_from(length).ok()?)?,
            };
            self.left.set(self.left.get().checked_sub(part.len())?);
            data.extend_from_slice(part);
        }
        (!data.is_empty()).then_some(data)
    }
}

fn kinds(iinf: &[u8]) -> Option<Vec<(u32, Name)>> {
    let mut reader = Reader(iinf);
    let (version, _) = reader.version()?;
    reader.id(version > 0)?;
    let kind = |entry| {
        let mut entry = Reader(entry);
        let (version, _) = entry.version()?;
        let item = entry.id(version > 2)?;
        entry.take(2)?;
        Some((item, entry.name()?))
    };
    Some(
        boxes(reader.0)
            .filter_map(|(_, entry)| kind(entry))
            .collect(),
    )
}

fn locations(iloc: &[u8]) -> Option<Vec<Location>> {
    let mut reader = Reader(iloc);
    let (version, _) = reader.version()?;
    let sizes = reader.number(2)? as usize;
    let [offset, length, base, index] = [12, 8, 4, 0].map(|shift| sizes >> shift & 15);
    if [offset, length, base, index].iter().any(|&size| size > 8) {
        return None;
    }
    let count = reader.id(version > 1)? as usize;
    let mut locations = Vec::new();
    let mut left = ENTRIES_MAX;
    for _ in 0..count.min(ENTRIES_MAX) {
        let item = reader.id(version > 1)?;
        let method = if version > 0 {
            reader.number(2)? & 15
        } else {
            0
        };
        reader.take(2)?;
        let from = reader.number(base)?;
        let mut extents = Vec::new();
        let parts = reader.number(2)? as usize;
        left = left.checked_sub(parts)?;
        for _ in 0..parts {
            if version > 0 {
                reader.take(index)?;
            }
            let start = from.checked_add(reader.number(offset)?)?;
            extents.push((start, reader.number(length)?));
        }
        // A method that is neither of these builds items from others; nobody does.
        if method < 2 {
            locations.push(Location {
                item,
                inside: method == 1,
                extents,
            });
        }
    }
    Some(locations)
}

fn references(iref: &[u8]) -> Option<Vec<Reference>> {
    let mut reader = Reader(iref);
    let (version, _) = reader.version()?;
    let reference = |(name, payload)| {
        let mut reader = Reader(payload);
        let from = reader.id(version > 0)?;
        let count = reader.number(2)?;
        let to: Option<Vec<u32>> = (0..count).map(|_| reader.id(version > 0)).collect();
        Some(Reference {
            name,
            from,
            to: to?,
        })
    };
    boxes(reader.0).map(reference).collect()
}

fn associate(ipma: &[u8], associations: &mut Vec<(u32, usize)>) -> Option<()> {
    let mut reader = Reader(ipma);
    let (version, flags) = reader.version()?;
    let wide = flags & 1 != 0;
    for _ in 0..reader.number(4)?.min(ENTRIES_MAX as u64) {
        let item = reader.id(version > 0)?;
        let numbers = reader.number(1)? as usize;
        if associations.len() + numbers > ENTRIES_MAX {
            return None;
        }
        for _ in 0..numbers {
            // The first bit says that it is essential.
            let number = if wide {
                reader.number(2)? & 0x7FFF
            } else {
                reader.number(1)? & 0x7F
            };
            associations.push((item, number as usize));
        }
    }
    Some(())
}
