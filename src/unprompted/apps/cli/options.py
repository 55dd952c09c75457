"""The options that several commands share: one word, one meaning, one help text."""

from pathlib import Path
from typing import Annotated

from typer import Option

from unprompted.engine.views import NO_VIEWS
from unprompted.io.forms import FORMS
from unprompted.registry import AUTO_CANDIDATES, AUTO_METHOD, DEFAULT_BACKBONE, DEFAULT_METHOD, METHODS

EXIT_CODES = (
    "Exit codes: 0 all good, 1 failure, 2 wrong call, 3 input data refused, 4 some cases failed and the "
    "others are written, 5 weights missing or damaged, 130 interrupted (run the same command again to go on)."
)

_RUN, _SUPPORT, _MODEL, _SAY = "Run", "Support", "Method and model", "Output on the screen"

Input = Annotated[
    Path,
    Option(
        "--input",
        "-i",
        help="Images to segment: a folder, a file, or dicomweb+https://HOST/dicom-web#study=UID.",
        show_default=False,
    ),
]
Output = Annotated[
    Path,
    Option(
        "--output",
        "-o",
        help="Folder for the results.",
        show_default=False,
    ),
]
Results = Annotated[
    str,
    Option(
        "--output",
        "-o",
        help="Folder for the results, a URL that fsspec knows (s3://, gs://), or dicomweb+https://HOST/dicom-web.",
        show_default=False,
    ),
]
Support = Annotated[
    Path | None,
    Option(
        "--support",
        "-s",
        help="Labelled cases: images/ + labels/, nnU-Net or MSD, *_img + *_label, frames/ + masks/.",
        show_default=False,
    ),
]
Task = Annotated[
    Path | None,
    Option("--task", "-t", help="A task of `unprompted fit` instead of a support.", show_default=False),
]
Labels = Annotated[
    list[str] | None,
    Option(
        "--labels",
        help="Only these classes, by name or value: --labels liver spleen.",
        rich_help_panel=_SUPPORT,
        show_default=False,
    ),
]
Axis = Annotated[
    str | None,
    Option(
        "--axis",
        help="Slice axis: S, A, R or axial, coronal, sagittal. Default: that of largest spacing.",
        rich_help_panel=_SUPPORT,
        show_default=False,
    ),
]
Patients = Annotated[
    str,
    Option(
        "--patients",
        help="Regular expression of the part of a case name that names the patient, such as '^p[0-9]+'; what "
        "leaves labelled cases out, to judge, then leaves patients out. Default: each case is one.",
        rich_help_panel=_SUPPORT,
        show_default=False,
    ),
]
Shots = Annotated[
    int | None,
    Option(
        "--shots",
        help="Use the first N labelled cases by name. Default: all.",
        rich_help_panel=_SUPPORT,
        show_default=False,
    ),
]
Train = Annotated[
    Path | None,
    Option(
        "--train",
        help="More labelled cases for methods that train the backbone, and for --adapt; none go to memory.",
        rich_help_panel=_SUPPORT,
        show_default=False,
    ),
]
Sparse = Annotated[
    bool,
    Option(
        "--sparse/--no-sparse",
        help="Slices without any label are unlabelled rather than background.",
        rich_help_panel=_SUPPORT,
    ),
]
Method = Annotated[
    str | None,
    Option(
        "--method",
        help=f"One of {', '.join(METHODS)}, or {AUTO_METHOD}: the best of {', '.join(AUTO_CANDIDATES)} on "
        f"labelled cases left out. Default: {DEFAULT_METHOD}.",
        rich_help_panel=_MODEL,
        show_default=False,
    ),
]
Set = Annotated[
    list[str] | None,
    Option(
        "--set",
        metavar="NAME=VALUE",
        help="A setting of the method; `unprompted info` lists them.",
        rich_help_panel=_MODEL,
        show_default=False,
    ),
]
Settings = Annotated[
    Path | None,
    Option(
        "--settings",
        help="Settings of the method from a TOML file; --set goes before.",
        rich_help_panel=_MODEL,
        show_default=False,
    ),
]
Backbone = Annotated[
    str | None,
    Option(
        "--backbone",
        help=f"A name of `unprompted info`, a hub id, a folder or a .pt file. Default: {DEFAULT_BACKBONE}.",
        rich_help_panel=_MODEL,
        show_default=False,
    ),
]
InputSize = Annotated[
    int | None,
    Option(
        "--input-size",
        help="Side of the model's input in pixels, 128 to 1024. Default: the model's own.",
        rich_help_panel=_MODEL,
        show_default=False,
    ),
]
Views = Annotated[
    str | None,
    Option(
        "--views",
        help=f"Test-time choices, separated by commas: {', '.join(NO_VIEWS.known())}.",
        rich_help_panel=_MODEL,
        show_default=False,
    ),
]
Adapt = Annotated[
    str | None,
    Option(
        "--adapt",
        help="Fine-tune the backbone on the labelled cases first, for at most 5min, 90s or 200steps.",
        rich_help_panel=_MODEL,
        show_default=False,
    ),
]
Refine = Annotated[
    bool,
    Option(
        "--refine/--no-refine",
        help="Redraw the masks with a small network trained on the labelled cases.",
        rich_help_panel=_MODEL,
    ),
]
Adapters = Annotated[
    Path | None,
    Option(
        "--adapters",
        help="A task of `unprompted fit` whose trained weights the backbone gets, whatever its method.",
        rich_help_panel=_MODEL,
        show_default=False,
    ),
]
Dtype = Annotated[
    str,
    Option(
        "--dtype",
        help="float32, or bfloat16: twice as fast where the processor knows it, and less exact.",
        rich_help_panel=_MODEL,
    ),
]
MemoryPool = Annotated[
    int,
    Option(
        "--memory-pool",
        help="Average memory over squares of so many places a side: 2 or 4 is faster and less exact.",
        rich_help_panel=_MODEL,
    ),
]
Seed = Annotated[int, Option("--seed", help="Decides everything random.", rich_help_panel=_MODEL)]
Device = Annotated[
    str, Option("--device", "-d", help="auto, cpu, gpu, cuda, cuda:1 or mps.", rich_help_panel=_RUN)
]
Devices = Annotated[
    str,
    Option(
        "--device",
        "-d",
        help="auto, cpu, gpu, cuda, cuda:1 or mps; several, separated by commas, get a worker each.",
        rich_help_panel=_RUN,
    ),
]
Workers = Annotated[
    int | None,
    Option(
        "--workers",
        help="Models that work at once, each in a process of its own. Default: one a device.",
        rich_help_panel=_RUN,
        show_default=False,
    ),
]
Ray = Annotated[
    str | None,
    Option(
        "--ray",
        metavar="ADDRESS",
        help="Segment on a Ray cluster: auto, HOST:PORT, ray://HOST:PORT or local. Needs the extra [ray].",
        rich_help_panel=_RUN,
        show_default=False,
    ),
]
Series = Annotated[
    str | None,
    Option(
        "--series",
        help="DICOM series to segment: its number, UID, modality or part of its description. Default: all.",
        rich_help_panel=_RUN,
        show_default=False,
    ),
]
Format = Annotated[
    str,
    Option("--format", help=f"Of the results: {', '.join(FORMS)} (that of the image).", rich_help_panel=_RUN),
]
Overwrite = Annotated[
    bool, Option("--overwrite/--no-overwrite", help="Replace what is there.", rich_help_panel=_RUN)
]
DryRun = Annotated[
    bool, Option("--dry-run", help="Print the plan, load no model, write nothing.", rich_help_panel=_RUN)
]
Explain = Annotated[
    bool,
    Option(
        "--explain/--no-explain",
        help="Write which support every slice was given: explain/CASE.csv and a picture.",
        rich_help_panel=_RUN,
    ),
]
RoundTrip = Annotated[
    bool,
    Option(
        "--round-trip/--no-round-trip",
        help="Predict the Dice of every case by segmenting labelled slices from its result, too.",
        rich_help_panel=_RUN,
    ),
]
MaxMemory = Annotated[
    str | None,
    Option(
        "--max-memory",
        help="Main memory the run may take, such as 4GB: classes and frames then go in smaller parts.",
        rich_help_panel=_RUN,
        show_default=False,
    ),
]
Review = Annotated[
    bool,
    Option(
        "--review/--no-review",
        help="Keep the fitted task beside the results, so that `unprompted review OUT` can teach it.",
        rich_help_panel=_RUN,
    ),
]
Report = Annotated[
    Path | None,
    Option(
        "--report",
        help="Write what was done to this JSON file too.",
        rich_help_panel=_RUN,
        show_default=False,
    ),
]
Quiet = Annotated[bool, Option("--quiet", "-q", help="Errors only.", rich_help_panel=_SAY)]
Verbose = Annotated[bool, Option("--verbose", "-v", help="Say more.", rich_help_panel=_SAY)]
Debug = Annotated[bool, Option("--debug", help="Say everything, with tracebacks.", rich_help_panel=_SAY)]
AsJson = Annotated[bool, Option("--json", help="Print JSON for programs.")]
