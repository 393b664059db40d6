"""The methods paragraphs of a paper about a run, from its key, its record and its analyses.

Every sentence follows from an option or a result of the run, and is left out if it is not true of it. Citations
are BibTeX keys of `methods.bib`, as Pandoc reads them.
"""

from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path, PurePath

from ensemble_eval.crops.protocols import PROTOCOLS, Protocol
from ensemble_eval.results.analyses import Analyses
from ensemble_eval.results.reading import StoredRun
from ensemble_eval.scoring.calibration import BINS
from ensemble_eval.scoring.table3 import TOP_1, TOP_5
from ensemble_eval.tables.table import counted_sentence, in_words

BIBLIOGRAPHY = Path(__file__).with_name("methods.bib")
# The papers of shipped protocols. The others state no scales, and are those of scripts.
_CITED = {
    "googlenet": "szegedy2015",
    "krizhevsky-10": "krizhevsky2012",
    "resnet-10": "he2016",
    "vgg-150": "simonyan2015",
}
_FIT = {"shorter": "its shorter side is", "longer": "its longer side is", "squeeze": "both sides are"}
_BACKENDS = {"torch": "PyTorch", "compiled": "PyTorch's compiler", "openvino": "OpenVINO"}
_PACKAGES = {"python": "Python", "torch": "PyTorch", "torchvision": "torchvision", "pillow": "Pillow"}


def methods_text(results: StoredRun, found: Analyses) -> str:
    """Return the paragraphs: data, members and crops, averaging, statistics, software."""
    parts = (_data, _members, _averaging, _statistics, _software)
    return "\n\n".join(" ".join(part(results, found)) for part in parts) + "\n"


def _data(results: StoredRun, found: Analyses) -> Iterator[str]:
    scope, arguments = results.key.scope, (results.record or {}).get("arguments") or {}
    images = in_words(len(results.images), "image")
    named = f" of {PurePath(arguments['dataset']).name}" if arguments.get("dataset") else ""
    if results.missing:
        yield f"This run is unfinished: {results.missing} of {results.key.images} images are missing."
    yield f"We evaluated {images}{named} (data set fingerprint {results.key.dataset[:12]})."
    if results.unreadable:
        yield f"We left out {in_words(len(results.unreadable), 'image')} that could not be read."
    if arguments.get("labels"):
        yield f"Labels are those of {PurePath(arguments['labels']).name}."
    if found.counted:
        yield counted_sentence(found.counted)
    if not scope.several_labels:
        yield "Each image has one label."
    if not any("ranked among" in phrase for phrase in found.counted):
        yield f"Labels are ranked among all {results.key.classes} classes."


def _members(results: StoredRun, _: Analyses) -> Iterator[str]:
    key = results.key
    listed = ", ".join(f"{each.name} ({each.arch}, {each.weights[:12]})" for each in key.members)
    count = len(key.members)
    what = "The network is" if count == 1 else f"The ensemble has {in_words(count, 'member')}:"
    yield f"{what} {listed}; the digits begin the SHA-256 hash of the weights, or of what identifies them."
    protocols = [each.protocol for each in key.members]
    for protocol in dict.fromkeys(protocols):
        of = [each.name for each in key.members if each.protocol == protocol]
        who = f"For {', '.join(of)}, we" if len(set(protocols)) > 1 else "We"
        yield f"{who} {_cut(protocol, results.crops[-1], protocol.resampling or key.interpolation)}."
    if len(results.crops) > 1:
        fewer = " or ".join(in_words(each, "crop") for each in results.crops[:-1])
        yield f"Rows with {fewer} use the first of these crops."


def _cut(protocol: Protocol, crops: int, resampling: str) -> str:
    scales = _joined([str(each) for each in dict.fromkeys(crop.scale for crop in protocol.crops[:crops])], "or")
    cited = (
        f" [@{_CITED[protocol.name]}]"
        if PROTOCOLS.get(protocol.name) == protocol and protocol.name in _CITED
        else ""
    )
    return (
        f"cut {in_words(crops, 'crop')} of {protocol.size}×{protocol.size} pixels from each image, after resizing "
        f"it with {'Pillow' if protocol.kernel == 'pillow' else 'PyTorch'}'s {resampling} filter so that "
        f"{_FIT[protocol.fit]} {scales} pixels (protocol {protocol.name}{cited})"
    )


def _joined(words: Sequence[str], conjunction: str) -> str:
    *others, last = words
    return f"{', '.join(others)} {conjunction} {last}" if others else last


def _averaging(results: StoredRun, found: Analyses) -> Iterator[str]:
    key, record = results.key, results.record or {}
    averaged = {"over crops": results.crops[-1], "over members": len(key.members)}
    if over := [name for name, count in averaged.items() if count > 1]:
        yield f"Softmax outputs are averaged {' and then '.join(over)}, with equal weights."
    yield "Among classes with equal scores, the one with the lower index ranks first."
    ks = " and ".join(str(k) for k in (TOP_5, TOP_1) if k in found.comparisons)
    lacks = "none of its labels is" if key.scope.several_labels else "its label is not"
    yield f"An image counts as a top-k error (k = {ks}) if {lacks} among the k best classes."
    if len(key.members) > 1:
        yield (
            f"Rows of one model use {found.decisions.one_model_member}, the member with the lowest top-1 error "
            f"with {in_words(results.crops[0], 'crop')} on these images, so their errors are optimistic."
        )
    if key.until_decided:
        saved, passes = record.get("passes_saved"), record.get("passes")
        share = f", which saved {100 * saved / (saved + passes):.1f}% of the passes" if saved and passes else ""
        yield (
            f"Each image was run only until its {' and '.join(key.until_decided)} outcome was certain for every "
            f"row{share}; the outcomes are those of all passes."
        )
    yield (
        f"Convolutions ran in {key.precision} with {_BACKENDS[key.backend]}; softmax outputs and means "
        "were not in half precision."
    )


def _statistics(_: StoredRun, found: Analyses) -> Iterator[str]:
    clusters, tests = found.clusters, len(found.comparisons[TOP_5].against_base)
    yield "Intervals and tests treat the images as a sample and the weights as fixed."
    yield "Errors have Wilson's 95% score interval [@wilson1927]."
    if tests:
        flips = "an exact permutation test that flips the sign of each cluster's difference"
        yield (
            "Differences are paired by image and have Tango's 95% score interval [@tango1998]. We call two rows "
            f"different if {flips if clusters else 'the exact McNemar test [@mcnemar1947]'} is significant at "
            f"the 5% level. We call them equal within {found.margin_points:g} percentage points if two one-sided "
            "tests [@schuirmann1987] with Tango's statistic are significant at the same level."
        )
    if tests > 1:
        yield f"P-values of the {tests} comparisons with the first row are adjusted by Holm's method [@holm1979]."
    if clusters:
        yield (
            f"The images are in {clusters} clusters: intervals and tests of equality use numbers of images "
            "divided by the cluster-robust design effect [@kish1965; @korn1998]."
        )
    if tests and any(found.classes.errors.values()):
        is_dependent = found.decisions.has_dependent_classes
        whose = "Yekutieli [@benjamini2001]" if is_dependent else "Hochberg [@benjamini1995]"
        yield f"For each class, we report false discovery rates by the method of Benjamini and {whose}."
    if found.ensembles and len(found.decisions.members) > 1:
        yield (
            "For ensembles of some members, compared with the whole ensemble, we report false discovery rates by "
            "the method of Benjamini and Yekutieli [@benjamini2001]."
        )
    if found.recipe:
        yield (
            f"The intervals over the members {', '.join(found.recipe)}, trained by one recipe, are Student's, "
            "with members as random effects and these images fixed."
        )
    if found.reliabilities:
        yield (
            f"Calibration is measured by the expected calibration error over {BINS} bins of equal width "
            "[@guo2017] and the Brier score [@brier1950] of the best class."
        )


def _software(results: StoredRun, _: Analyses) -> Iterator[str]:
    executions = (results.record or {}).get("executions", ())

    def version(name: str) -> str:
        return _values(each["versions"].get(name) for each in executions)

    if ours := version("ensemble-eval"):
        devices = _values(each["device_name"].replace("cpu", "CPUs") for each in executions)
        backend = {"openvino": "OpenVINO"} if results.key.backend == "openvino" else {}
        cited = {"torch": " [@paszke2019]"}
        named = {**_PACKAGES, **backend}.items()
        listed = [f"{title} {version(name)}{cited.get(name, '')}" for name, title in named if version(name)]
        yield f"Predictions were computed by ensemble-eval {ours} on {devices} with {_joined(listed, 'and')}."
    yield f"The statistics were computed with SciPy {metadata.version('scipy')} [@virtanen2020]."


def _values(found: Iterable[str | None]) -> str:
    """The different values, joined; several if a run was continued with other versions."""
    return " and ".join(dict.fromkeys(filter(None, found)))
