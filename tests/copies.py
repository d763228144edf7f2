"""Copies of models, so that tests which need the same one build it once."""

import copy
from collections import OrderedDict

from modeling_data2vec_generic import Data2VecGenericForPreTraining


def copy_of(model: Data2VecGenericForPreTraining) -> Data2VecGenericForPreTraining:
    """A deep copy that shares the encoder's template, which never changes, with the original.

    A module has about ten dictionaries of hooks. They are nearly always empty, and to copy them takes longer than all
    the rest, so a new one takes the place of each empty one.
    """
    memo: dict[int, object] = {id(model._template): model._template}
    for module in model.modules():
        for value in vars(module).values():
            if type(value) is OrderedDict and not value:
                memo[id(value)] = OrderedDict()
    return copy.deepcopy(model, memo)
