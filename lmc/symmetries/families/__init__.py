"""The model families, one frozen table each: a file here is all that a new architecture needs.

A family names the exact stock classes it covers (a subclass may compute something else) and builds a `ModelSpec` from
a model's configuration and shapes, never from its weights, so a model on the meta device is enough. No algorithm is
here. To add one, copy the nearest file, name its classes in `classes` and its table in `family.FAMILIES`, and say in
`facts.FACTS` what is lost in it; the book's page "Add a family" walks through it.

Begin with `llama`; `decoder` is what most decoders share, made of `attention`, `feed_forward` and `heads`; `common`
holds the rest of what several tables have in common.
"""

from typing import TYPE_CHECKING

from lmc import face

if TYPE_CHECKING:
    from lmc.symmetries.families import facts as facts
    from lmc.symmetries.families import vit_forms as vit_forms
    from lmc.symmetries.families.classes import covered as covered
    from lmc.symmetries.families.classes import is_covered as is_covered
    from lmc.symmetries.families.classes import reads as reads
    from lmc.symmetries.families.classes import require_covered as require_covered
    from lmc.symmetries.families.common import EVERY as EVERY
    from lmc.symmetries.families.common import Family as Family
    from lmc.symmetries.families.common import Images as Images
    from lmc.symmetries.families.common import Tokens as Tokens
    from lmc.symmetries.families.family import FAMILIES as FAMILIES
    from lmc.symmetries.families.family import families as families
    from lmc.symmetries.families.family import family_of as family_of
    from lmc.symmetries.families.family import find as find
    from lmc.symmetries.families.family import spec as spec
    from lmc.symmetries.families.heads import TIMM_NAMES as TIMM_NAMES
    from lmc.symmetries.families.heads import class_names as class_names
    from lmc.symmetries.families.heads import first_naming as first_naming
    from lmc.symmetries.families.heads import name_classes_as as name_classes_as
    from lmc.symmetries.families.heads import names_classes as names_classes
    from lmc.symmetries.families.heads import timm_record as timm_record
    from lmc.symmetries.families.settings import of_configuration as of_configuration
    from lmc.symmetries.families.settings import same_but_for_size as same_but_for_size
    from lmc.symmetries.families.settings import same_setting as same_setting
    from lmc.symmetries.families.windows import contexts as contexts
    from lmc.symmetries.families.windows import narrowest as narrowest
else:
    __getattr__, __dir__ = face(__name__)
