//! The lists of the first profile. Tags by number, so that they can be held against PS3.15, Table E.1-1.
//!
//! Order of decision: private elements and group lengths; elements that stay empty; groups and elements that always go;
//! elements kept by name; then by VR: UIDs are replaced, sequences are looked into, numbers and codes of the groups that
//! describe the picture stay, everything else goes. Checked against the table's edition 2026d: nothing that it removes,
//! empties or replaces is kept, but references to images, whose UIDs are replaced (its code U).

use dicom_core::{
    Tag, VR,
    dictionary::{DataDictionary as _, DataDictionaryEntry as _, VirtualVr},
};
use dicom_dictionary_std::StandardDataDictionary;

use super::{Form, Rule};

/// What becomes of an element with this tag and VR.
pub fn rule(tag: Tag, vr: VR) -> Rule {
    let Tag(group, element) = tag;
    if group % 2 == 1 || element == 0 {
        return Rule::Remove;
    }
    if let Some((_, vr)) = EMPTIED.iter().find(|(emptied, _)| *emptied == tag) {
        return Rule::Empty(*vr);
    }
    if REMOVED_GROUPS.contains(&group)
        || matches!(group >> 8, 0x50 | 0x60)
        || REMOVED.contains(&tag)
        || !is_standard(tag)
    {
        return Rule::Remove;
    }
    match vr {
        VR::UI if CLASS_UIDS.contains(&tag) => Rule::Keep(Form::Uid),
        VR::UI => Rule::ReplaceUids,
        VR::SQ => Rule::Recurse,
        VR::SH | VR::LO | VR::UC if CODE_PARTS.contains(&tag) => Rule::KeepCode,
        VR::SH | VR::LO | VR::UC if KEPT_LABELS.contains(&tag) => Rule::Keep(Form::Label),
        VR::CS if PICTURE_GROUPS.contains(&group) || KEPT.contains(&tag) => Rule::Keep(Form::Code),
        VR::DS | VR::IS if PICTURE_GROUPS.contains(&group) || KEPT.contains(&tag) => Rule::Keep(Form::Number),
        VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW if KEPT_BULK.contains(&tag) => Rule::Keep(Form::Binary),
        VR::US | VR::SS | VR::UL | VR::SL | VR::FL | VR::FD | VR::AT | VR::SV | VR::UV
            if PICTURE_GROUPS.contains(&group) || KEPT.contains(&tag) =>
        {
            Rule::Keep(Form::Binary)
        }
        _ => Rule::Remove,
    }
}

/// Whether values of this VR are numbers or bulk data in binary form.
pub(super) fn is_binary(vr: VR) -> bool {
    matches!(
        vr,
        VR::US
            | VR::SS
            | VR::UL
            | VR::SL
            | VR::FL
            | VR::FD
            | VR::AT
            | VR::SV
            | VR::UV
            | VR::OB
            | VR::OD
            | VR::OF
            | VR::OL
            | VR::OV
            | VR::OW
    )
}

fn is_standard(tag: Tag) -> bool {
    StandardDataDictionary.by_tag(tag).is_some_and(|entry| entry.vr() != VirtualVr::Exact(VR::UN))
}

/// Stay without a value: type 2 of their modules.
const EMPTIED: [(Tag, VR); 14] = [
    (Tag(0x0008, 0x0020), VR::DA), // Study Date
    (Tag(0x0008, 0x0023), VR::DA), // Content Date
    (Tag(0x0008, 0x0030), VR::TM), // Study Time
    (Tag(0x0008, 0x0033), VR::TM), // Content Time
    (Tag(0x0008, 0x0050), VR::SH), // Accession Number
    (Tag(0x0008, 0x0090), VR::PN), // Referring Physician's Name
    (Tag(0x0010, 0x0010), VR::PN), // Patient's Name
    (Tag(0x0010, 0x0020), VR::LO), // Patient ID
    (Tag(0x0010, 0x0030), VR::DA), // Patient's Birth Date
    (Tag(0x0010, 0x0040), VR::CS), // Patient's Sex
    (Tag(0x0018, 0x0010), VR::LO), // Contrast/Bolus Agent
    (Tag(0x0020, 0x0010), VR::SH), // Study ID
    (Tag(0x0020, 0x1040), VR::LO), // Position Reference Indicator
    (Tag(0x3006, 0x0026), VR::LO), // ROI Name
];

/// Groups that go whole.
const REMOVED_GROUPS: [u16; 18] = [
    0x0000, // network commands
    0x0002, // file meta information inside of a data set
    0x0004, // directory records
    0x0010, // patient
    0x0012, // clinical trial
    0x0016, // camera: position, maker notes
    0x0032, // study as scheduled
    0x0034, // flow and source identifiers
    0x0038, // visit
    0x0042, // encapsulated documents
    0x0072, // hanging protocols: values of selectors
    0x0088, // storage; icon images
    0x0100, // authorised equipment
    0x0400, // signatures, original attributes, encrypted attributes
    0x4008, // results
    0x4FFE, // MAC parameters
    0xFFFA, // digital signatures
    0xFFFC, // padding
];

/// Sequences and codes that go although their group and VR could stay.
const REMOVED: [Tag; 51] = [
    Tag(0x0008, 0x0082), // Institution Code Sequence
    Tag(0x0008, 0x0096), // Referring Physician Identification Sequence
    Tag(0x0008, 0x009D), // Consulting Physician Identification Sequence
    Tag(0x0008, 0x1041), // Institutional Department Type Code Sequence
    Tag(0x0008, 0x1049), // Physician(s) of Record Identification Sequence
    Tag(0x0008, 0x1052), // Performing Physician Identification Sequence
    Tag(0x0008, 0x1062), // Physician(s) Reading Study Identification Sequence
    Tag(0x0008, 0x1072), // Operator Identification Sequence
    Tag(0x0008, 0x1084), // Admitting Diagnoses Code Sequence
    Tag(0x0008, 0x1110), // Referenced Study Sequence
    Tag(0x0008, 0x1111), // Referenced Performed Procedure Step Sequence
    Tag(0x0008, 0x1120), // Referenced Patient Sequence
    Tag(0x0008, 0x1301), // Principal Diagnosis Code Sequence
    Tag(0x0008, 0x1302), // Primary Diagnosis Code Sequence
    Tag(0x0008, 0x1303), // Secondary Diagnoses Code Sequence
    Tag(0x0008, 0x1304), // Histological Diagnoses Code Sequence
    Tag(0x0018, 0x100A), // UDI Sequence
    Tag(0x0018, 0x5011), // Transducer Identification Sequence
    Tag(0x0020, 0x3401), // Modifying Device ID
    Tag(0x0040, 0x000B), // Scheduled Performing Physician Identification Sequence
    Tag(0x0040, 0x0275), // Request Attributes Sequence
    Tag(0x0040, 0x0513), // Issuer of the Container Identifier Sequence
    Tag(0x0040, 0x0555), // Acquisition Context Sequence
    Tag(0x0040, 0x0562), // Issuer of the Specimen Identifier Sequence
    Tag(0x0040, 0x0610), // Specimen Preparation Sequence
    Tag(0x0040, 0x1011), // Intended Recipients of Results Identification Sequence
    Tag(0x0040, 0x100A), // Reason for Requested Procedure Code Sequence
    Tag(0x0040, 0x1101), // Person Identification Code Sequence
    Tag(0x0040, 0x4025), // Scheduled Station Name Code Sequence
    Tag(0x0040, 0x4027), // Scheduled Station Geographic Location Code Sequence
    Tag(0x0040, 0x4028), // Performed Station Name Code Sequence
    Tag(0x0040, 0x4030), // Performed Station Geographic Location Code Sequence
    Tag(0x0040, 0x4034), // Scheduled Human Performers Sequence
    Tag(0x0040, 0x4035), // Actual Human Performers Sequence
    Tag(0x0040, 0xA073), // Verifying Observer Sequence
    Tag(0x0040, 0xA078), // Author Observer Sequence
    Tag(0x0040, 0xA07A), // Participant Sequence
    Tag(0x0040, 0xA07C), // Custodial Organization Sequence
    Tag(0x0040, 0xA088), // Verifying Observer Identification Code Sequence
    Tag(0x0040, 0xA358), // Verbal Source Identifier Code Sequence (Trial)
    Tag(0x0040, 0xA360), // Predecessor Documents Sequence
    Tag(0x0040, 0xA370), // Referenced Request Sequence
    Tag(0x0040, 0xA730), // Content Sequence
    Tag(0x0040, 0xB020), // Waveform Annotation Sequence
    Tag(0x0070, 0x0001), // Graphic Annotation Sequence
    Tag(0x0070, 0x0086), // Content Creator's Identification Code Sequence
    Tag(0x3006, 0x004D), // ROI Creator Sequence
    Tag(0x3006, 0x004E), // ROI Interpreter Sequence
    Tag(0x3010, 0x0081), // Prescription Notes Sequence
    Tag(0x0040, 0x0244), // Performed Procedure Step Start Date
    Tag(0x0040, 0x0245), // Performed Procedure Step Start Time
];

/// UIDs that name a class or a format, not an instance.
pub(super) const CLASS_UIDS: [Tag; 6] = [
    Tag(0x0008, 0x0016), // SOP Class UID
    Tag(0x0008, 0x001A), // Related General SOP Class UID
    Tag(0x0008, 0x001B), // Original Specialized SOP Class UID
    Tag(0x0008, 0x0062), // SOP Classes in Study
    Tag(0x0008, 0x1150), // Referenced SOP Class UID
    Tag(0x0008, 0x115A), // SOP Classes Supported
];

/// The text of a code; kept when its scheme is published.
const CODE_PARTS: [Tag; 4] = [
    Tag(0x0008, 0x0100), // Code Value
    Tag(0x0008, 0x0102), // Coding Scheme Designator
    Tag(0x0008, 0x0103), // Coding Scheme Version
    Tag(0x0008, 0x0104), // Code Meaning
];

/// Coding schemes whose codes everybody can look up (PS3.16, section 8).
pub(super) const PUBLISHED_SCHEMES: [&str; 11] =
    ["DCM", "SCT", "SRT", "SNM3", "UCUM", "LN", "RADLEX", "FMA", "UMLS", "NCIt", "MDC"];

/// Short texts that say how the picture was made.
const KEPT_LABELS: [Tag; 10] = [
    Tag(0x0008, 0x0070), // Manufacturer
    Tag(0x0008, 0x1090), // Manufacturer's Model Name
    Tag(0x0018, 0x0024), // Sequence Name
    Tag(0x0018, 0x1160), // Filter Type
    Tag(0x0018, 0x1210), // Convolution Kernel
    Tag(0x0018, 0x1250), // Receive Coil Name
    Tag(0x0018, 0x1251), // Transmit Coil Name
    Tag(0x0018, 0x9005), // Pulse Sequence Name
    Tag(0x0028, 0x1054), // Rescale Type
    Tag(0x0028, 0x3004), // Modality LUT Type
];

/// Groups that describe the picture: their codes and numbers stay.
const PICTURE_GROUPS: [u16; 28] = [
    0x0018, // acquisition
    0x0020, // position and numbering
    0x0022, // ophthalmology
    0x0024, // perimetry
    0x0028, // pixels
    0x003A, // waveforms
    0x0046, // refraction
    0x0048, // whole slides
    0x0052, // intravascular
    0x0054, // nuclear medicine
    0x0060, // histogram
    0x0062, // segmentation
    0x0064, // deformation
    0x0066, // surfaces
    0x0068, // implants
    0x0070, // presentation
    0x2050, // presentation LUT
    0x3002, // radiotherapy image
    0x3004, // dose
    0x3006, // structures
    0x3008, // treatment record
    0x300A, // plan
    0x300C, // references of a plan
    0x3010, // second-generation radiotherapy
    0x5200, // functional groups
    0x5400, // waveform data
    0x7FE0, // pixel data and its offset tables
    0x0014, // material testing
];

/// Codes and numbers of other groups that stay.
const KEPT: [Tag; 40] = [
    Tag(0x0008, 0x0005), // Specific Character Set
    Tag(0x0008, 0x0008), // Image Type
    Tag(0x0008, 0x0060), // Modality
    Tag(0x0008, 0x0061), // Modalities in Study
    Tag(0x0008, 0x0064), // Conversion Type
    Tag(0x0008, 0x0068), // Presentation Intent Type
    Tag(0x0008, 0x0105), // Mapping Resource
    Tag(0x0008, 0x010F), // Context Identifier
    Tag(0x0008, 0x1160), // Referenced Frame Number
    Tag(0x0008, 0x1161), // Simple Frame List
    Tag(0x0008, 0x1162), // Calculated Frame List
    Tag(0x0008, 0x1163), // Time Range
    Tag(0x0008, 0x1197), // Failure Reason
    Tag(0x0008, 0x2122), // Stage Number
    Tag(0x0008, 0x2124), // Number of Stages
    Tag(0x0008, 0x2128), // View Number
    Tag(0x0008, 0x2129), // Number of Event Timers
    Tag(0x0008, 0x212A), // Number of Views in Stage
    Tag(0x0008, 0x2130), // Event Elapsed Time(s)
    Tag(0x0008, 0x2142), // Start Trim
    Tag(0x0008, 0x2143), // Stop Trim
    Tag(0x0008, 0x2144), // Recommended Display Frame Rate
    Tag(0x0008, 0x9007), // Frame Type
    Tag(0x0008, 0x9205), // Pixel Presentation
    Tag(0x0008, 0x9206), // Volumetric Properties
    Tag(0x0008, 0x9207), // Volume Based Calculation Technique
    Tag(0x0008, 0x9208), // Complex Image Component
    Tag(0x0008, 0x9209), // Acquisition Contrast
    Tag(0x0040, 0x0312), // X-Ray Output
    Tag(0x0040, 0x0314), // Half Value Layer
    Tag(0x0040, 0x0316), // Organ Dose
    Tag(0x0040, 0x0318), // Organ Exposed
    Tag(0x0040, 0x8302), // Entrance Dose in mGy
    Tag(0x0040, 0x9211), // Real World Value Last Value Mapped
    Tag(0x0040, 0x9212), // Real World Value LUT Data
    Tag(0x0040, 0x9213), // Double Float Real World Value Last Value Mapped
    Tag(0x0040, 0x9214), // Double Float Real World Value First Value Mapped
    Tag(0x0040, 0x9216), // Real World Value First Value Mapped
    Tag(0x0040, 0x9224), // Real World Value Intercept
    Tag(0x0040, 0x9225), // Real World Value Slope
];

/// Bulk data that is needed to show the picture.
const KEPT_BULK: [Tag; 17] = [
    Tag(0x0028, 0x1201), // Red Palette Color Lookup Table Data
    Tag(0x0028, 0x1202), // Green Palette Color Lookup Table Data
    Tag(0x0028, 0x1203), // Blue Palette Color Lookup Table Data
    Tag(0x0028, 0x1204), // Alpha Palette Color Lookup Table Data
    Tag(0x0028, 0x1221), // Segmented Red Palette Color Lookup Table Data
    Tag(0x0028, 0x1222), // Segmented Green Palette Color Lookup Table Data
    Tag(0x0028, 0x1223), // Segmented Blue Palette Color Lookup Table Data
    Tag(0x0028, 0x1224), // Segmented Alpha Palette Color Lookup Table Data
    Tag(0x0028, 0x2000), // ICC Profile
    Tag(0x0028, 0x3006), // LUT Data
    Tag(0x5400, 0x0110), // Channel Minimum Value
    Tag(0x5400, 0x0112), // Channel Maximum Value
    Tag(0x5400, 0x100A), // Waveform Padding Value
    Tag(0x5400, 0x1010), // Waveform Data
    Tag(0x7FE0, 0x0001), // Extended Offset Table
    Tag(0x7FE0, 0x0002), // Extended Offset Table Lengths
    Tag(0x7FE0, 0x0003), // Encapsulated Pixel Data Value Total Length
];
