"""The list of nodes."""

from comfy_api.latest import ComfyExtension, io

from .nodes.check_inversion import CheckInversion
from .nodes.controlnet import ControlNet
from .nodes.edit import Edit
from .nodes.edited_keyframes import EditedKeyframes
from .nodes.flowedit import FlowEdit
from .nodes.instruct import Instruct
from .nodes.invert import Invert
from .nodes.load_model import LoadModel
from .nodes.lora import LoRA
from .nodes.plug_and_play import PlugAndPlay
from .nodes.reference import Reference
from .nodes.region import Region
from .nodes.region_mask import RegionMask
from .nodes.report import Report
from .nodes.sdedit import SDEdit
from .nodes.textual_inversion import TextualInversion


class TokenflowExtension(ComfyExtension):
    """All nodes of the pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The nodes, in the order of a workflow."""
        return [
            LoadModel,
            LoRA,
            TextualInversion,
            Invert,
            CheckInversion,
            PlugAndPlay,
            SDEdit,
            ControlNet,
            FlowEdit,
            Instruct,
            EditedKeyframes,
            Region,
            RegionMask,
            Reference,
            Edit,
            Report,
        ]
