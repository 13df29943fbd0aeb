"""Judges de-identified files with pydicom, an implementation that is not ours.

Arguments: pairs of files, original and de-identified. Prints a line for each problem, and nothing else. The errors of the
IODs are those that dciodvfy of dicom3tools finds.
"""

import functools
import os
import re
import subprocess
import sys

import pydicom

# What tells who the patient is, or leads to it, in the files of pydicom.
SECRET_VR = {"PN", "DA", "DT", "UI"}
SECRET = {
    "PatientID", "OtherPatientIDs", "IssuerOfPatientID", "AccessionNumber", "StudyID", "InstitutionName",
    "InstitutionAddress", "StationName", "DeviceSerialNumber", "StudyDescription", "SeriesDescription", "ProtocolName",
    "PatientComments", "ImageComments", "AdditionalPatientHistory", "MedicalRecordLocator", "PatientAddress",
    "InstitutionalDepartmentName", "RequestedProcedureDescription", "PerformedProcedureStepDescription",
}
WELL_KNOWN = "1.2.840.10008."
# Class UIDs are not instances; they may be private ones.
CLASSES = {"SOPClassUID", "ReferencedSOPClassUID", "MediaStorageSOPClassUID", "CodingSchemeUID"}
HARMLESS_VR = {"SH", "LO", "CS", "DS"}
# What may stand in the place of a value: dummies and pseudonyms.
DUMMIES = {"REMOVED", "REMOVED^", "19000101", "19000101000000"}
PSEUDONYM = re.compile(r"P-[A-Z2-7]{16}$")
# Files in which dciodvfy finds nothing because it cannot read them: deflated, with elements out of order, of 32 bits.
UNREAD = ("Dicom dataset read failed", "Tags out of order", "Tag read failed", "Assertion")
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def is_secret(element):
    return element.keyword in SECRET or element.VR in SECRET_VR and element.keyword not in CLASSES


def secrets(dataset):
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from secrets(item)
            continue
        private = element.tag.is_private and element.VR in {"LO", "SH", "LT", "ST", "UT", "PN", "UI"}
        if not (private or is_secret(element)) or isinstance(element.value, bytes):
            continue
        many = element.value if element.VM > 1 else [element.value]
        for value in many:
            parts = str(value).split("^") if element.VR == "PN" else [str(value)]
            for text in parts:
                text = text.strip(" \0")
                if len(text) >= 4 and not text.startswith(WELL_KNOWN):
                    yield element.keyword or str(element.tag), text


def pixels(dataset):
    for keyword in PIXELS:
        if keyword in dataset:
            return keyword, dataset[keyword].value
    return None, b""


@functools.cache
def iod_errors(path):
    """The errors that dciodvfy finds, without the values in them."""
    dciodvfy = os.path.join(os.path.dirname(sys.executable), "dciodvfy")
    done = subprocess.run([dciodvfy, path], capture_output=True, check=False)
    lines = (done.stdout + done.stderr).decode("latin-1").splitlines()
    values = re.compile(r"<[^>]*>|\b[0-9][0-9.]*\b|\"[^\"]*\"")
    return {values.sub("_", line) for line in lines if line.startswith("Error") or "Assertion" in line}


def judge(original_path, cleaned_path):
    original = pydicom.dcmread(original_path, force=True)
    cleaned = pydicom.dcmread(cleaned_path)
    cleaned.decode()
    for element in cleaned.iterall():
        assert element is not None
    keyword, value = pixels(original)
    if pixels(cleaned) != (keyword, value):
        yield "the pixel data differ"
    if cleaned.get("PatientIdentityRemoved") != "YES":
        yield "PatientIdentityRemoved is not YES"
    if original.get("SOPInstanceUID") and cleaned.SOPInstanceUID != cleaned.file_meta.MediaStorageSOPInstanceUID:
        yield "the file meta information names another instance"
    codes = {item.CodeValue for item in cleaned.DeidentificationMethodCodeSequence}
    dates_may_stay, options = "113107" in codes, {"clean"} if "113105" in codes else set()
    if any(element.tag.is_private for element in cleaned.iterall()):
        yield "a private element was kept"
    for keep in ("Rows", "Columns", "BitsAllocated", "PixelSpacing", "ImageType", "RescaleSlope", "Modality"):
        if original.get(keep) is not None and cleaned.get(keep) != original.get(keep):
            yield f"{keep} was not kept"
    raw = open(cleaned_path, "rb").read()
    head = raw[: len(raw) - len(value)] if value else raw
    # A word that also stands where it says nothing of the patient, such as 00000 in 6.00000, is no secret there.
    kept = {str(element.value) for element in cleaned.iterall() if element.VR in HARMLESS_VR and not is_secret(element)}
    kept |= {str(element.value) for element in cleaned.iterall() if element.VR in {"DA", "DT"} and dates_may_stay} | DUMMIES
    for name, text in set(secrets(original)) | set(secrets(original.file_meta)):
        # Of a description, known words may stay, which may be all of it.
        if name.endswith(("Description", "ProtocolName")) and "clean" in options:
            continue
        if text.encode("latin-1", "replace") in head and not any(text in value for value in kept):
            yield f"{name} is still there"
    for element in cleaned.iterall():
        stands = element.VR in {"DA", "DT"} and dates_may_stay or str(element.value) in DUMMIES
        stands = stands or PSEUDONYM.match(str(element.value)) or "clean" in options and element.VR in {"LO", "LT", "SH"}
        if is_secret(element) and element.VR != "UI" and element.value and not stands:
            yield f"{element.keyword} has a value"
    before, after = iod_errors(original_path), iod_errors(cleaned_path)
    if not any(unread in line for line in before for unread in UNREAD):
        for line in sorted(after - before):
            yield f"dciodvfy: {line}"


for pair in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        for problem in judge(*pair):
            print(f"{pair[0]}: {problem}")
    except Exception as error:
        print(f"{pair[0]}: {type(error).__name__}: {error}")
