"""A Hydra application with our options whose jobs do nothing: what is left is what a sweep itself costs a trial."""

import hydra

from mltricks.config.options import conf_dir


@hydra.main(config_path=str(conf_dir()), config_name="config", execution_whitelist=["mltricks.*"])
def nothing(cfg):
    return 0.0


if __name__ == "__main__":
    nothing()
