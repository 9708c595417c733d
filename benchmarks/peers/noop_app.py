"""A Hydra application with mltricks' options whose jobs do nothing, to measure the cost of a sweep per trial."""

import hydra

from mltricks.config.options import conf_dir


@hydra.main(config_path=str(conf_dir()), config_name="config", execution_whitelist=["mltricks.*"])
def nothing(cfg):
    return 0.0


if __name__ == "__main__":
    nothing()
