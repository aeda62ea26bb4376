"""The workflow of each session kind, made of the stages that are installed."""

from tomofly.flow.graph import Workflow, build_workflow
from tomofly.stages.registry import installed_stages


def workflow_of(kind: str) -> Workflow:
    """Give the workflow of a session kind. Raises TomoflyError for a kind that nobody brings."""
    return build_workflow(kind, [installed.stage for installed in installed_stages()])
