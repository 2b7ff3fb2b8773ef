"""From the text of a recipe to the settings it stands for, and back to text with every default written out.

    document    YAML with the place of every node                 installed   names of recipes -> files
    layers      `extends` and overrides
    sections    nodes -> settings of the components, every error with file:line:column
    load        a file -> one `Recipe` a task                     training    the same for a training
    sweep       a file -> the recipes of many runs
    resolved    settings -> text                                  copy        an installed recipe -> a user's own
    schema      the JSON Schema of recipes                        describe    a component in words
    data        the section `data`                                wording     validation errors in words

Nothing here imports torch.
"""

from .document import plain_yaml
from .installed import installed_recipes
from .load import Recipe, load_recipe
from .resolved import file_hashes, hash_lines, plain, resolved_yaml, to_yaml
from .training import TrainingRecipe, is_training, load_training

__all__ = [
    "Recipe",
    "TrainingRecipe",
    "file_hashes",
    "hash_lines",
    "installed_recipes",
    "is_training",
    "load_recipe",
    "load_training",
    "plain",
    "plain_yaml",
    "resolved_yaml",
    "to_yaml",
]
