# SPDX-License-Identifier: Apache-2.0
import os
import re

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.layout import basic_layout
from conan.tools.files import copy, load

required_conan_version = ">=2.0"


class AshlarConan(ConanFile):
    name = "ashlar"
    license = "Apache-2.0"
    description = "Header-only C++20 building blocks for the software stack of an AI chip"
    topics = ("deep-learning", "tensor", "compiler", "inference", "distributed", "header-only")
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    no_copy_source = True
    options = {"strict_fp": [True, False]}
    default_options = {"strict_fp": True}
    exports_sources = "CMakeLists.txt", "LICENSE", "include/*"

    def set_version(self):
        text = load(self, os.path.join(self.recipe_folder, "include", "ashlar", "version.hpp"))
        self.version = ".".join(re.findall(r"ASHLAR_VERSION_\w+ (\d+)", text))

    def requirements(self):
        self.requires("boost/[>=1.74 <2]", options={"header_only": True})
        self.requires("xsimd/[>=8.1]")
        self.requires("nlohmann_json/[>=3.9 <4]")

    def validate(self):
        check_min_cppstd(self, 20)

    def layout(self):
        basic_layout(self, src_folder=".")

    def package_id(self):
        self.info.clear()

    def package(self):
        headers = os.path.join(self.source_folder, "include")
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))
        for headers_of in ("*.hpp", "*.h"):
            copy(self, headers_of, headers, os.path.join(self.package_folder, "include"))

    def package_info(self):
        self.cpp_info.set_property("cmake_file_name", "ashlar")
        self.cpp_info.set_property("cmake_target_name", "ashlar::ashlar")
        self.cpp_info.set_property("pkg_config_name", "ashlar")
        self.cpp_info.bindirs = []
        self.cpp_info.libdirs = []
        if self.options.strict_fp:
            self.cpp_info.cxxflags = ["-ffp-contract=off"]
        if self.settings.get_safe("os") in ("Linux", "FreeBSD"):
            self.cpp_info.system_libs = ["pthread"]
