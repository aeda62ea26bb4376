"""The words of tomofly as plain frozen types: what every other room may use and none may redefine."""

from tomofly.model.catalog import Catalog, Entry, SourceFile
from tomofly.model.errors import BadInput, TomoflyError
from tomofly.model.fingerprint import fingerprint
from tomofly.model.items import GroupState, ItemRef, Member, MemberState
from tomofly.model.loading import LoadedOnCall
from tomofly.model.parameters import StageParams, SwitchableParams, parameter, result_parameters
from tomofly.model.results import Flag, Outcome, Result, Spent
from tomofly.model.sections import GainParams, MicroscopeParams, ResourceParams, SourceParams
from tomofly.model.settings import Settings, section_of
from tomofly.model.stage import (
    Completion,
    FoldStage,
    GroupStage,
    MapStage,
    Metric,
    Resources,
    Shape,
    Stage,
    StageContext,
)
from tomofly.model.tasks import TaskState

__all__ = [
    "BadInput",
    "Catalog",
    "Completion",
    "Entry",
    "Flag",
    "FoldStage",
    "GainParams",
    "GroupStage",
    "GroupState",
    "ItemRef",
    "LoadedOnCall",
    "MapStage",
    "Member",
    "MemberState",
    "Metric",
    "MicroscopeParams",
    "Outcome",
    "ResourceParams",
    "Resources",
    "Result",
    "Settings",
    "Shape",
    "SourceFile",
    "SourceParams",
    "Spent",
    "Stage",
    "StageContext",
    "StageParams",
    "SwitchableParams",
    "TaskState",
    "TomoflyError",
    "fingerprint",
    "parameter",
    "result_parameters",
    "section_of",
]
